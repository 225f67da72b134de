package org.dubway.test;

import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import javassist.ClassPool;
import javassist.CtClass;
import javassist.CtNewConstructor;
import org.apache.dubbo.rpc.RpcContext;

/** The provider's side of Probe. */
final class ProbeImpl implements Probe {
    private static final Map<String, AtomicInteger> TOLD = new ConcurrentHashMap<>();
    private static final RuntimeException UNKNOWN = unknown();
    private final String name;

    ProbeImpl(String name) {
        this.name = name;
    }

    @Override
    public String echo(String text) {
        return text;
    }

    @Override
    public String who() {
        Books.add("served");
        return name;
    }

    @Override
    public String attach(String key) {
        String value = RpcContext.getServerAttachment().getAttachment(key);
        RpcContext.getServerResponseContext().setAttachment("reply", value + "!");
        return value;
    }

    @Override
    public String fail(String kind) throws ProbeException {
        switch (kind) {
            case "checked":
                throw new ProbeException("checked by " + name, 42);
            case "runtime":
                throw new IllegalStateException("runtime by " + name);
            default:
                throw UNKNOWN;
        }
    }

    @Override
    public CompletableFuture<String> later(String text) {
        return CompletableFuture.supplyAsync(
                () -> text, CompletableFuture.delayedExecutor(5, TimeUnit.MILLISECONDS));
    }

    @Override
    public String sleep(int millis) {
        System.out.println("sleeping"); // tests wait for it
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        return name;
    }

    @Override
    public void tell(String key) {
        TOLD.computeIfAbsent(key, k -> new AtomicInteger()).incrementAndGet();
    }

    @Override
    public int told(String key) {
        AtomicInteger n = TOLD.get(key);
        return n == null ? 0 : n.get();
    }

    @Override
    public void subscribe(String key, Listener listener) {
        for (int i = 1; i <= 3; i++) {
            listener.changed(key + i);
        }
    }

    /** Makes an exception whose class exists in this process alone. */
    private static RuntimeException unknown() {
        try {
            ClassPool pool = ClassPool.getDefault();
            CtClass made = pool.makeClass("org.dubway.test.Nowhere", pool.get("java.lang.RuntimeException"));
            made.addConstructor(CtNewConstructor.make("public Nowhere() { super(\"unknown\"); }", made));
            return (RuntimeException) made.toClass(ProbeImpl.class).getDeclaredConstructor().newInstance();
        } catch (Exception e) {
            throw new IllegalStateException("cannot make a class", e);
        }
    }
}
