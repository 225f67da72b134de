package org.dubway.test;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.dubbo.rpc.RpcContext;

/** The checks in which nothing happens, until something does. */
final class Waiting {
    private Waiting() {}

    /**
     * Leaves a connection to each of the job's idle targets alone for so many ms: nothing but
     * heartbeats. The call after it is tried once.
     */
    static String idle(Job job) throws InterruptedException {
        List<Link> links = new ArrayList<>();
        try {
            for (String target : job.list("targets")) {
                links.add(new Link(job.with("target", target).with("retries", "0")));
            }
            for (Link link : links) {
                link.probe().echo("before");
            }
            Thread.sleep(job.number("idle", 3500));
            for (Link link : links) {
                link.probe().echo("after");
            }
        } finally {
            links.forEach(Link::close);
        }
        return links.size() + " connections";
    }

    /**
     * Makes so many calls at once, by turns synchronous and not, that outlast whatever the test
     * does to them, and tells how often one ended, and how.
     */
    static String pending(Link link, Job job) throws InterruptedException, ExecutionException, TimeoutException {
        AtomicInteger answered = new AtomicInteger();
        AtomicInteger failed = new AtomicInteger();
        List<CompletableFuture<?>> all = new ArrayList<>();
        Probe probe = link.probe();
        int millis = job.number("millis", 1000);
        for (int i = 0; i < job.number("calls", 1); i++) {
            CompletableFuture<String> call = i % 2 == 0
                    ? threaded(() -> probe.sleep(millis))
                    : RpcContext.getServiceContext().asyncCall(() -> probe.sleep(millis));
            all.add(call.handle((value, thrown) -> (thrown == null ? answered : failed).incrementAndGet()));
        }
        CompletableFuture.allOf(all.toArray(new CompletableFuture<?>[0])).get(60, TimeUnit.SECONDS);
        return "answered " + answered + ", failed " + failed;
    }

    /** Makes a synchronous call in a thread of its own. */
    private static CompletableFuture<String> threaded(Callable<String> call) {
        CompletableFuture<String> ended = new CompletableFuture<>();
        new Thread(() -> {
            try {
                ended.complete(call.call());
            } catch (Throwable t) {
                ended.completeExceptionally(t);
            }
        }).start();
        return ended;
    }
}
