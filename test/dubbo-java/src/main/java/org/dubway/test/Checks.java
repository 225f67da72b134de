package org.dubway.test;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.RpcException;
import org.apache.dubbo.rpc.service.EchoService;

/** The checks by name. One returns a detail, or throws what was wrong. */
final class Checks {
    private static final int[] SIZES = {0, 1, 31, 32, 127, 128, 1023, 1024, 4096, 32767, 32768, 65536, 200_000, 1 << 20};
    private static final String WIDE = "\u00e9\u670d\u52a1\ud83d\ude00\ud834\udd1e"; // two, three and four bytes of UTF-8
    private final Link link;
    private final Job job;
    private final Map<String, Callable<String>> all = new HashMap<>();

    Checks(Link link, Job job) {
        this.link = link;
        this.job = job;
        all.put("sizes", this::sizes);
        all.put("everysize", this::everySize);
        all.put("who", () -> equal(job.get("name", ""), link.probe().who()));
        all.put("group", () -> equal(job.get("name", "") + "/blue/1.2.0", link.probe("blue", "1.2.0").who()));
        all.put("attachments", this::attachments);
        all.put("answered", this::answered);
        all.put("checked", this::checked);
        all.put("runtime", this::runtime);
        all.put("unknown", this::unknown);
        all.put("future", () -> equal("f", link.probe().later("f").get(3, TimeUnit.SECONDS)));
        all.put("async", () -> equal("a", RpcContext.getServiceContext().asyncCall(() -> link.probe().echo("a")).get(3, TimeUnit.SECONDS)));
        all.put("pipelined", this::pipelined);
        all.put("oneway", this::oneWay);
        all.put("generic", () -> equal("g", link.generic().$invoke("echo", new String[] {"java.lang.String"}, new Object[] {"g"})));
        all.put("echo", () -> equal("e", ((EchoService) link.probe()).$echo("e")));
        all.put("timeout", this::timeout);
        all.put("version", this::version);
        all.put("idle", () -> Waiting.idle(job));
        all.put("pending", () -> Waiting.pending(link, job));
        all.put("callback", this::callback);
        all.put("steady", this::steady);
        all.put("call", this::call);
        all.put("callasync", this::callAsync);
        all.put("burst", () -> Burst.run(link, job));
    }

    String run(String name) throws Throwable {
        Callable<String> check = all.get(name);
        if (check == null) {
            throw new IllegalArgumentException("no check " + name);
        }
        return check.call();
    }

    private static String equal(Object want, Object got) {
        if (!want.equals(got)) {
            throw new IllegalStateException("got " + got + ", want " + want);
        }
        return String.valueOf(got);
    }

    private String sizes() {
        for (int size : SIZES) {
            same("x".repeat(size));
            same(WIDE.repeat(size / 13));
        }
        return SIZES.length + " sizes";
    }

    /** Every size in which a string or a frame may change its form, up to 1 MiB. */
    private String everySize() {
        int n = 0;
        for (; n <= 2100; n++) {
            same("x".repeat(n));
        }
        for (int power = 4096; power <= 1 << 20; power *= 2) {
            for (int size = power - 1; size <= power + 1; size++, n++) {
                same("x".repeat(size));
                same(WIDE.repeat(size / 16) + "x".repeat(size % 16));
            }
        }
        return n + " sizes";
    }

    private void same(String text) {
        String got = link.probe().echo(text);
        if (!text.equals(got)) {
            throw new IllegalStateException("an echo of " + text.length() + " came back as " + (got == null ? null : got.length()));
        }
    }

    private String attachments() {
        RpcContext.getClientAttachment().setAttachment("trace", "t-1 \u00e9");
        equal("t-1 \u00e9", link.probe().attach("trace"));
        return equal("t-1 \u00e9!", RpcContext.getClientResponseContext().getAttachment("reply"));
    }

    /** What a provider's answer has beside its value. */
    private String answered() {
        equal(job.get("name", ""), link.probe().who());
        return new TreeMap<>(RpcContext.getClientResponseContext().getAttachments()).toString();
    }

    private String checked() {
        try {
            link.probe().fail("checked");
        } catch (ProbeException e) {
            equal(42, e.getCode());
            return equal("checked by " + job.get("name", ""), e.getMessage());
        }
        throw new IllegalStateException("nothing was thrown");
    }

    private String runtime() throws ProbeException {
        try {
            link.probe().fail("runtime");
        } catch (IllegalStateException e) {
            return equal("runtime by " + job.get("name", ""), e.getMessage());
        }
        throw new IllegalStateException("nothing was thrown");
    }

    /** Java refuses a class that it does not have, and says so: code 1. */
    private String unknown() throws ProbeException {
        try {
            link.limited(3000).fail("unknown");
        } catch (RpcException e) {
            equal(RpcException.NETWORK_EXCEPTION, e.getCode());
            return e.getMessage();
        }
        throw new IllegalStateException("nothing was thrown");
    }

    private String pipelined() throws Exception {
        List<CompletableFuture<String>> calls = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            calls.add(link.probe().later("p" + i));
        }
        for (int i = 0; i < calls.size(); i++) {
            equal("p" + i, calls.get(i).get(5, TimeUnit.SECONDS));
        }
        return calls.size() + " calls";
    }

    private String oneWay() throws InterruptedException {
        String name = "one-way-" + System.nanoTime();
        for (int i = 0; i < 20; i++) {
            link.oneWay().tell(name);
        }
        int told = 0;
        for (int i = 0; i < 60 && told < 20; i++) {
            told = link.probe().told(name);
            Thread.sleep(50);
        }
        return equal(20, told);
    }

    private String timeout() {
        long start = System.nanoTime();
        try {
            link.limited(300).sleep(900);
        } catch (RpcException e) {
            equal(RpcException.TIMEOUT_EXCEPTION, e.getCode());
            equal("after", link.probe().echo("after")); // on the same connection
            return (System.nanoTime() - start) / 1_000_000 + " ms";
        }
        throw new IllegalStateException("nothing was thrown");
    }

    private String version() {
        try {
            link.probe(null, "9.9.9").who();
        } catch (RpcException e) {
            return e.getMessage();
        }
        throw new IllegalStateException("nothing was thrown");
    }

    private String callback() throws InterruptedException {
        BlockingQueue<String> heard = new LinkedBlockingQueue<>();
        link.calledBack().subscribe("c", heard::add);
        for (int i = 1; i <= 3; i++) {
            equal("c" + i, String.valueOf(heard.poll(3, TimeUnit.SECONDS)));
        }
        return "3 calls";
    }

    /** Calls for a time and tells who answered and what failed. */
    private String steady() throws InterruptedException {
        Map<String, Integer> seen = new HashMap<>();
        for (long end = System.nanoTime() + job.number("for", 1000) * 1_000_000L; System.nanoTime() < end; ) {
            String who;
            try {
                who = link.probe().who();
            } catch (RpcException e) {
                who = "failed: " + e.getMessage();
            }
            seen.merge(who, 1, Integer::sum);
            Thread.sleep(5);
        }
        return seen.toString();
    }

    /** One call of the job's method: echo of the job's size, sleep or fail. */
    private String call() throws ProbeException {
        String answer = answer();
        return answer == null ? "null" : answer.length() + " characters";
    }

    private String callAsync() throws Exception {
        return RpcContext.getServiceContext().asyncCall(this::answer).get(20, TimeUnit.SECONDS).length() + " characters";
    }

    /** Null while an asynchronous call is under way. */
    private String answer() throws ProbeException {
        switch (job.get("method", "echo")) {
            case "sleep":
                return link.probe().sleep(job.number("millis", 1000));
            case "fail":
                return link.probe().fail(job.get("kind", "runtime"));
            default:
                return link.probe().echo("x".repeat(job.number("size", 1)));
        }
    }
}
