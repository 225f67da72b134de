package org.dubway.test;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.dubbo.config.ArgumentConfig;
import org.apache.dubbo.config.MethodConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.rpc.service.GenericService;

/**
 * The references of one job, all to one target and so over one connection. A job's words are
 * target (HOST:PORT, or several by ";", between which Dubbo's cluster chooses) or registry (its
 * URL), serialization, timeout, retries, heartbeat (both in ms), group, version, connections.
 */
final class Link implements AutoCloseable {
    private final Job job;
    private final Deque<ReferenceConfig<?>> open = new ArrayDeque<>();
    private final Map<String, Probe> made = new HashMap<>();

    Link(Job job) {
        this.job = job;
    }

    /** The service as the job names it. */
    Probe probe() {
        return made.computeIfAbsent("", k -> get(reference(Probe.class, job.get("group", null), job.get("version", null))));
    }

    /** The service of a group and version. */
    Probe probe(String group, String version) {
        return made.computeIfAbsent(group + "/" + version, k -> get(reference(Probe.class, group, version)));
    }

    /** The service with a time limit of its own and no retries. */
    Probe limited(int timeout) {
        return made.computeIfAbsent("timeout=" + timeout, k -> {
            ReferenceConfig<Probe> r = reference(Probe.class, null, null);
            r.setTimeout(timeout);
            r.setRetries(0);
            r.setUrl(url("timeout=" + timeout + "&retries=0"));
            return get(r);
        });
    }

    /** The service with a one-way tell. */
    Probe oneWay() {
        return made.computeIfAbsent("oneway", k -> {
            MethodConfig tell = new MethodConfig();
            tell.setName("tell");
            tell.setReturn(false);
            tell.setSent(false);
            ReferenceConfig<Probe> r = reference(Probe.class, null, null);
            r.setMethods(List.of(tell));
            return get(r);
        });
    }

    /** The service with a callback argument: a direct URL must say so itself. */
    Probe calledBack() {
        return made.computeIfAbsent("callback", k -> {
            ArgumentConfig listener = new ArgumentConfig();
            listener.setIndex(1);
            listener.setCallback(true);
            MethodConfig subscribe = new MethodConfig();
            subscribe.setName("subscribe");
            subscribe.setArguments(List.of(listener));
            ReferenceConfig<Probe> r = reference(Probe.class, null, null);
            r.setMethods(List.of(subscribe));
            r.setUrl(url("subscribe.1.callback=true&methods=subscribe"));
            return get(r);
        });
    }

    GenericService generic() {
        ReferenceConfig<GenericService> r = reference(GenericService.class, null, null);
        r.setGeneric("true");
        return get(r);
    }

    private <T> T get(ReferenceConfig<T> r) {
        open.push(r);
        return r.get();
    }

    private <T> ReferenceConfig<T> reference(Class<T> type, String group, String version) {
        ReferenceConfig<T> r = new ReferenceConfig<>();
        r.setInterface(Probe.class.getName());
        r.setGroup(group);
        r.setVersion(version);
        r.setTimeout(job.number("timeout", 3000));
        r.setRetries(job.number("retries", 2));
        r.setCheck(false);
        r.setScope("remote");
        String registry = job.get("registry", "");
        if (registry.isEmpty()) {
            r.setUrl(url(""));
        } else {
            r.setRegistry(new RegistryConfig(registry));
            r.setProvidedBy("probe-provider"); // for discovery by applications
        }
        return r;
    }

    private String url(String more) {
        String service = '/' + Probe.class.getName() + parameters() + (more.isEmpty() ? "" : "&" + more);
        StringBuilder b = new StringBuilder();
        for (String target : job.get("target", "").split(";")) {
            b.append(b.length() == 0 ? "" : ";").append("dubbo://").append(target).append(service);
        }
        return b.toString();
    }

    private String parameters() {
        StringBuilder b = new StringBuilder();
        b.append("?heartbeat=").append(job.get("heartbeat", "60000")).append("&payload=67108864");
        String connections = job.get("connections", "");
        if (!connections.isEmpty()) {
            b.append("&connections=").append(connections);
        }
        String serialization = job.get("serialization", "");
        if (!serialization.isEmpty()) {
            b.append("&serialization=").append(serialization).append("&prefer.serialization=").append(serialization);
        }
        return b.toString();
    }

    @Override
    public void close() {
        while (!open.isEmpty()) {
            open.pop().destroy();
        }
    }
}
