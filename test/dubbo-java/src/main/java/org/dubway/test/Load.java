package org.dubway.test;

import java.io.IOException;
import java.nio.file.Files;
import java.time.Instant;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;

/**
 * A consumer that calls its job's target until there is a file "stop" in the folder of its counts,
 * and says so there by a file "stopped". It counts (Books) what it sent, what was answered and what
 * failed; each call is made once. What fails before there is a connection is no call.
 */
public final class Load {
    private Load() {}

    public static void main(String[] args) throws IOException, InterruptedException {
        ApplicationConfig app = new ApplicationConfig("probe-load");
        app.setQosEnable(false);
        DubboBootstrap.getInstance().application(app).start();
        Job job = new Job(String.join(" ", args));
        if (job.get("retries", null) == null) {
            job = job.with("retries", "0");
        }
        Link link = new Link(job);
        Probe probe = connected(link);
        System.out.println("READY");
        while (!Files.exists(Books.folder().resolve("stop"))) {
            Books.add("sent");
            try {
                String who = probe.who();
                Books.add("answered");
                Books.add("answered-" + who);
            } catch (RuntimeException e) {
                Books.add("failed");
                Books.note(Instant.now() + " failed: " + e);
            }
            Thread.sleep(job.number("pause", 5));
        }
        Files.createFile(Books.folder().resolve("stopped"));
        Thread.currentThread().join(); // until it is told to end
    }

    private static Probe connected(Link link) throws InterruptedException {
        while (true) {
            try {
                return link.probe();
            } catch (RuntimeException e) {
                System.out.println("connect: " + e);
                Thread.sleep(200);
            }
        }
    }
}
