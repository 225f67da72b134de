package org.dubway.test;

import java.util.Arrays;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.dubbo.rpc.RpcContext;

/**
 * Calls echo as fast as it is answered, for the job's warm and then for ms, and tells what was
 * measured in the latter: calls, of those and the others all, and median and 99th percentile in us.
 * The job's threads call one after the other each; with flying, one thread has so many calls in
 * flight instead.
 */
final class Burst {
    private static final int SAMPLES = 1 << 20;
    private static final int PRIMING = 24; // as of package dubboload

    private final Probe probe;
    private final Job job;
    private final String text;
    private final long from;
    private final long until;
    private final AtomicLong all = new AtomicLong();
    private final AtomicInteger calls = new AtomicInteger();
    private final AtomicReference<Throwable> failed = new AtomicReference<>();
    private final long[] took = new long[SAMPLES];

    private Burst(Link link, Job job) throws InterruptedException {
        this.probe = link.probe();
        this.job = job;
        text = "x".repeat(job.number("size", 128));
        prime(job.number("connections", 1));
        from = System.nanoTime() + job.number("warm", 1000) * 1_000_000L;
        until = from + job.number("for", 1000) * 1_000_000L;
    }

    /** Calls on each connection, and rests: what is done to one that is worth it is done then. */
    private void prime(int connections) throws InterruptedException {
        for (int i = 0; i < PRIMING * connections; i++) {
            probe.echo(text);
            all.incrementAndGet();
        }
        Thread.sleep(250);
    }

    static String run(Link link, Job job) throws InterruptedException {
        Burst b = new Burst(link, job);
        if (job.number("flying", 0) > 0) {
            b.fly(job.number("flying", 0));
        } else {
            b.threads(job.number("threads", 16));
        }
        if (b.failed.get() != null) {
            throw new IllegalStateException("a call failed", b.failed.get());
        }
        int n = Math.min(b.calls.get(), SAMPLES);
        Arrays.sort(b.took, 0, n);
        return b.calls + " " + b.all + " " + b.took[n / 2] / 1000 + " " + b.took[(int) (n * 0.99)] / 1000;
    }

    private void threads(int n) throws InterruptedException {
        Thread[] threads = new Thread[n];
        for (int i = 0; i < n; i++) {
            threads[i] = new Thread(this::follow);
            threads[i].start();
        }
        for (Thread t : threads) {
            t.join();
        }
    }

    private void follow() {
        try {
            for (long start = System.nanoTime(); start < until && failed.get() == null; start = System.nanoTime()) {
                ended(start, probe.echo(text), null);
            }
        } catch (Throwable t) {
            failed.compareAndSet(null, t);
        }
    }

    private void fly(int n) throws InterruptedException {
        Semaphore free = new Semaphore(n);
        for (long start = System.nanoTime(); start < until && failed.get() == null; ) {
            free.acquire();
            start = System.nanoTime();
            long begun = start;
            RpcContext.getServiceContext().asyncCall(() -> probe.echo(text)).whenComplete((value, thrown) -> {
                ended(begun, value, thrown);
                free.release();
            });
        }
        free.acquire(n);
    }

    private void ended(long start, String value, Throwable thrown) {
        long now = System.nanoTime();
        all.incrementAndGet();
        if (thrown != null || !text.equals(value)) {
            failed.compareAndSet(null, thrown != null ? thrown : new IllegalStateException("not the echo: " + value));
        } else if (start >= from && now <= until) {
            int i = calls.getAndIncrement();
            if (i < SAMPLES) {
                took[i] = now - start;
            }
        }
    }
}
