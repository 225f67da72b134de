package org.dubway.test;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;

/**
 * A consumer that does jobs: those of its arguments, or else the lines of its standard input until
 * that ends. A job says what to call and how (Link) and names its checks (Checks); each check is
 * answered by one line of JSON (Report), and the end of a job by one with the check "end". Jobs run
 * one after the other; the connections of one are closed before the next begins.
 */
public final class Consumer {
    private Consumer() {}

    public static void main(String[] args) throws IOException {
        ApplicationConfig app = new ApplicationConfig("probe-consumer");
        app.setQosEnable(false);
        DubboBootstrap.getInstance().application(app).start();
        if (args.length > 0) {
            run(String.join(" ", args));
            System.exit(0);
        }
        System.out.println("READY");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            run(line);
        }
        System.exit(0);
    }

    private static void run(String line) {
        long begin = System.nanoTime();
        Job job = new Job(line);
        String id = job.get("id", "0");
        try (Link link = new Link(job)) {
            Checks checks = new Checks(link, job);
            for (String check : job.list("checks")) {
                long start = System.nanoTime();
                try {
                    Report.say(id, check, checks.run(check), null, start);
                } catch (Throwable t) {
                    Report.say(id, check, "", t, start);
                }
            }
        }
        Report.say(id, "end", "", null, begin);
    }
}
