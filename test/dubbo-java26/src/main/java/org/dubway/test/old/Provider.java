package org.dubway.test.old;

import com.alibaba.dubbo.config.ApplicationConfig;
import com.alibaba.dubbo.config.ProtocolConfig;
import com.alibaba.dubbo.config.RegistryConfig;
import com.alibaba.dubbo.config.ServiceConfig;
import com.alibaba.dubbo.rpc.RpcContext;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.dubway.test.Probe;
import org.dubway.test.ProbeException;

/** A provider of Probe, plain and as blue/1.2.0: Provider PORT NAME. Dubbo 2.6 has no futures. */
public final class Provider implements Probe {
    private static final Map<String, AtomicInteger> TOLD = new ConcurrentHashMap<>();
    private final String name;

    private Provider(String name) {
        this.name = name;
    }

    public static void main(String[] args) throws InterruptedException {
        ApplicationConfig app = new ApplicationConfig("probe-provider");
        app.setQosEnable(false);
        ProtocolConfig protocol = new ProtocolConfig("dubbo", Integer.parseInt(args[0]));
        protocol.setPayload(64 << 20);
        export(app, protocol, args[1], null, null);
        export(app, protocol, args[1] + "/blue/1.2.0", "blue", "1.2.0");
        System.out.println("READY");
        Thread.currentThread().join();
    }

    private static void export(ApplicationConfig app, ProtocolConfig protocol, String name, String group, String version) {
        ServiceConfig<Probe> service = new ServiceConfig<>();
        service.setApplication(app);
        service.setRegistry(new RegistryConfig("N/A"));
        service.setProtocol(protocol);
        service.setInterface(Probe.class);
        service.setRef(new Provider(name));
        service.setGroup(group);
        service.setVersion(version);
        service.setScope("remote");
        service.export();
    }

    @Override
    public String echo(String text) {
        return text;
    }

    @Override
    public String who() {
        return name;
    }

    @Override
    public String attach(String key) {
        return RpcContext.getContext().getAttachment(key);
    }

    @Override
    public String fail(String kind) throws ProbeException {
        if (kind.equals("checked")) {
            throw new ProbeException("checked by " + name, 42);
        }
        throw new IllegalStateException(kind + " by " + name);
    }

    @Override
    public CompletableFuture<String> later(String text) {
        throw new UnsupportedOperationException();
    }

    @Override
    public String sleep(int millis) {
        System.out.println("sleeping");
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
        listener.changed(key + 1);
    }
}
