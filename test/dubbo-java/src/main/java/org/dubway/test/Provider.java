package org.dubway.test;

import java.util.List;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ArgumentConfig;
import org.apache.dubbo.config.MethodConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;

/**
 * A provider of Probe, plain and as blue/1.2.0: Provider PORT NAME [REGISTRY]. It prints READY when
 * it listens, and stops as Dubbo does when it gets SIGTERM. It always listens on [::], dual stack.
 * The system property probe.heartbeat is its heartbeat in ms: three of them without a byte, and it
 * closes a connection; probe.threads is how many calls it does at once.
 */
public final class Provider {
    private Provider() {}

    public static void main(String[] args) throws InterruptedException {
        ApplicationConfig app = new ApplicationConfig("probe-provider");
        app.setQosEnable(false);
        ProtocolConfig protocol = new ProtocolConfig("dubbo", Integer.parseInt(args[0]));
        protocol.setPayload(64 << 20); // the mesh's limit is what is tested
        protocol.setThreads(Integer.getInteger("probe.threads"));
        protocol.setHeartbeat(Integer.getInteger("probe.heartbeat"));
        // The protocol is the bootstrap's: otherwise Dubbo opens a second port for its metadata.
        DubboBootstrap.getInstance()
                .application(app)
                .registry(new RegistryConfig(args.length > 2 ? args[2] : "N/A"))
                .protocol(protocol)
                .service(service(args[1], null, null))
                .service(service(args[1] + "/blue/1.2.0", "blue", "1.2.0"))
                .start();
        System.out.println("READY");
        Thread.currentThread().join();
    }

    private static ServiceConfig<Probe> service(String name, String group, String version) {
        ArgumentConfig listener = new ArgumentConfig();
        listener.setIndex(1);
        listener.setCallback(true);
        MethodConfig subscribe = new MethodConfig();
        subscribe.setName("subscribe");
        subscribe.setArguments(List.of(listener));
        ServiceConfig<Probe> service = new ServiceConfig<>();
        service.setInterface(Probe.class);
        service.setRef(new ProbeImpl(name));
        service.setGroup(group);
        service.setVersion(version);
        service.setScope("remote");
        service.setMethods(List.of(subscribe));
        return service;
    }
}
