package org.dubway.test.old;

import com.alibaba.dubbo.config.ApplicationConfig;
import com.alibaba.dubbo.config.MethodConfig;
import com.alibaba.dubbo.config.ReferenceConfig;
import com.alibaba.dubbo.rpc.RpcContext;
import com.alibaba.dubbo.rpc.RpcException;
import com.alibaba.dubbo.rpc.service.EchoService;
import com.alibaba.dubbo.rpc.service.GenericService;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.dubway.test.Job;
import org.dubway.test.Probe;
import org.dubway.test.ProbeException;
import org.dubway.test.Report;

/** A consumer that does jobs from its standard input, as org.dubway.test.Consumer does. */
public final class Consumer implements AutoCloseable {
    private static final int[] SIZES = {0, 1, 31, 32, 1023, 1024, 32767, 32768, 65536, 200_000, 1 << 20};
    private static final String WIDE = "\u00e9\u670d\u52a1\ud83d\ude00\ud834\udd1e";
    private static final ApplicationConfig APP = new ApplicationConfig("probe-consumer");
    private final Job job;
    private final Deque<ReferenceConfig<?>> open = new ArrayDeque<>();
    private Probe plain;

    private Consumer(Job job) {
        this.job = job;
    }

    public static void main(String[] args) throws IOException {
        APP.setQosEnable(false);
        System.out.println("READY");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            Job job = new Job(line);
            long begin = System.nanoTime();
            try (Consumer c = new Consumer(job)) {
                for (String check : job.list("checks")) {
                    long start = System.nanoTime();
                    try {
                        Report.say(job.get("id", "0"), check, c.check(check).call(), null, start);
                    } catch (Throwable t) {
                        Report.say(job.get("id", "0"), check, "", t, start);
                    }
                }
            }
            Report.say(job.get("id", "0"), "end", "", null, begin);
        }
        System.exit(0);
    }

    private Callable<String> check(String name) {
        String provider = job.get("name", "");
        return switch (name) {
            case "sizes" -> this::sizes;
            case "who" -> () -> equal(provider, probe().who());
            case "group" -> () -> equal(provider + "/blue/1.2.0", get(reference(Probe.class, "blue", "1.2.0")).who());
            case "attachments" -> this::attachments;
            case "answered" -> this::answered;
            case "checked" -> this::checked;
            case "runtime" -> this::runtime;
            case "pipelined" -> this::pipelined;
            case "oneway" -> this::oneWay;
            case "generic" -> this::generic;
            case "echo" -> () -> equal("e", ((EchoService) probe()).$echo("e"));
            case "timeout" -> this::timeout;
            case "version" -> this::version;
            case "everysize" -> this::everySize;
            case "steady" -> this::steady;
            case "idle" -> this::idle;
            case "pending" -> this::pending;
            case "call" -> () -> probe().echo("x".repeat(job.number("size", 1))).length() + " characters";
            default -> throw new IllegalArgumentException("no check " + name);
        };
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
        if (!text.equals(probe().echo(text))) {
            throw new IllegalStateException("an echo of " + text.length() + " came back otherwise");
        }
    }

    /** Calls for a time and tells who answered and what failed. */
    private String steady() throws InterruptedException {
        Map<String, Integer> seen = new HashMap<>();
        for (long end = System.nanoTime() + job.number("for", 1000) * 1_000_000L; System.nanoTime() < end; ) {
            String who;
            try {
                who = probe().who();
            } catch (RpcException e) {
                who = "failed: " + e.getMessage();
            }
            seen.merge(who, 1, Integer::sum);
            Thread.sleep(5);
        }
        return seen.toString();
    }

    /** As org.dubway.test.Waiting. */
    private String idle() throws InterruptedException {
        List<Consumer> all = new ArrayList<>();
        try {
            for (String target : job.list("targets")) {
                all.add(new Consumer(job.with("target", target).with("retries", "0")));
            }
            for (Consumer each : all) {
                each.probe().echo("before");
            }
            Thread.sleep(job.number("idle", 3500));
            for (Consumer each : all) {
                each.probe().echo("after");
            }
        } finally {
            all.forEach(Consumer::close);
        }
        return all.size() + " connections";
    }

    /** As org.dubway.test.Waiting, with synchronous calls only. */
    private String pending() throws InterruptedException {
        AtomicInteger answered = new AtomicInteger();
        AtomicInteger failed = new AtomicInteger();
        List<Thread> all = new ArrayList<>();
        Probe probe = probe();
        for (int i = 0; i < job.number("calls", 1); i++) {
            all.add(new Thread(() -> {
                try {
                    probe.sleep(job.number("millis", 1000));
                    answered.incrementAndGet();
                } catch (Throwable t) {
                    failed.incrementAndGet();
                }
            }));
        }
        all.forEach(Thread::start);
        for (Thread each : all) {
            each.join();
        }
        return "answered " + answered + ", failed " + failed;
    }

    private String attachments() {
        RpcContext.getContext().setAttachment("trace", "t-1 \u00e9");
        return equal("t-1 \u00e9", probe().attach("trace"));
    }

    /** What a provider's answer has beside its value. */
    private String answered() {
        equal(job.get("name", ""), probe().who());
        return new TreeMap<>(RpcContext.getServerContext().getAttachments()).toString();
    }

    private String checked() {
        try {
            probe().fail("checked");
        } catch (ProbeException e) {
            equal(42, e.getCode());
            return equal("checked by " + job.get("name", ""), e.getMessage());
        }
        throw new IllegalStateException("nothing was thrown");
    }

    private String runtime() throws ProbeException {
        try {
            probe().fail("runtime");
        } catch (IllegalStateException e) {
            return equal("runtime by " + job.get("name", ""), e.getMessage());
        }
        throw new IllegalStateException("nothing was thrown");
    }

    private String pipelined() throws Exception {
        ReferenceConfig<Probe> r = reference(Probe.class, null, null);
        r.setAsync(true);
        Probe async = get(r);
        List<Future<String>> calls = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            async.echo("p" + i);
            calls.add(RpcContext.getContext().getFuture());
        }
        for (int i = 0; i < calls.size(); i++) {
            equal("p" + i, calls.get(i).get(5, TimeUnit.SECONDS));
        }
        return calls.size() + " calls";
    }

    private String oneWay() throws InterruptedException {
        MethodConfig tell = new MethodConfig();
        tell.setName("tell");
        tell.setReturn(false);
        tell.setSent(false);
        ReferenceConfig<Probe> r = reference(Probe.class, null, null);
        r.setMethods(List.of(tell));
        Probe oneWay = get(r);
        String name = "one-way-" + System.nanoTime();
        for (int i = 0; i < 20; i++) {
            oneWay.tell(name);
        }
        int told = 0;
        for (int i = 0; i < 60 && told < 20; i++) {
            told = probe().told(name);
            Thread.sleep(50);
        }
        return equal(20, told);
    }

    private String generic() {
        ReferenceConfig<GenericService> r = reference(GenericService.class, null, null);
        r.setGeneric("true");
        return equal("g", get(r).$invoke("echo", new String[] {"java.lang.String"}, new Object[] {"g"}));
    }

    private String timeout() {
        ReferenceConfig<Probe> r = reference(Probe.class, null, null);
        r.setTimeout(300);
        r.setRetries(0);
        try {
            get(r).sleep(900);
        } catch (RpcException e) {
            equal(RpcException.TIMEOUT_EXCEPTION, e.getCode());
            return equal("after", probe().echo("after"));
        }
        throw new IllegalStateException("nothing was thrown");
    }

    private String version() {
        try {
            get(reference(Probe.class, null, "9.9.9")).who();
        } catch (Throwable t) { // dubbo-go's plain errors are this very class
            return t.getMessage();
        }
        throw new IllegalStateException("nothing was thrown");
    }

    private Probe probe() {
        if (plain == null) {
            plain = get(reference(Probe.class, null, null));
        }
        return plain;
    }

    private <T> T get(ReferenceConfig<T> r) {
        open.push(r);
        return r.get();
    }

    private <T> ReferenceConfig<T> reference(Class<T> type, String group, String version) {
        ReferenceConfig<T> r = new ReferenceConfig<>();
        r.setApplication(APP);
        r.setInterface(Probe.class.getName());
        r.setGroup(group);
        r.setVersion(version);
        r.setTimeout(job.number("timeout", 3000));
        r.setRetries(job.number("retries", 2));
        r.setCheck(false);
        r.setScope("remote");
        List<String> urls = new ArrayList<>();
        for (String target : job.get("target", "").split(";")) {
            urls.add("dubbo://" + target + "/" + Probe.class.getName() + "?payload=67108864&heartbeat=" + job.get("heartbeat", "60000"));
        }
        r.setUrl(String.join(";", urls));
        return r;
    }

    @Override
    public void close() {
        while (!open.isEmpty()) {
            open.pop().destroy();
        }
    }
}
