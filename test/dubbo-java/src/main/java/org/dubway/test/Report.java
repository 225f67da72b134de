package org.dubway.test;

import java.util.ArrayList;
import java.util.List;

/** One line of JSON for one check: what the tests read. */
public final class Report {
    private static final int LONGEST = 2000;

    private Report() {}

    public static void say(String job, String check, String detail, Throwable thrown, long start) {
        StringBuilder b = new StringBuilder("{\"job\":").append(quote(job));
        b.append(",\"check\":").append(quote(check));
        b.append(",\"ok\":").append(thrown == null);
        b.append(",\"detail\":").append(quote(detail));
        b.append(",\"ms\":").append((System.nanoTime() - start) / 1_000_000);
        b.append(",\"exception\":[");
        List<Throwable> seen = new ArrayList<>();
        for (Throwable t = thrown; t != null && !seen.contains(t); t = t.getCause()) {
            b.append(seen.isEmpty() ? "" : ",").append(link(t));
            seen.add(t);
        }
        synchronized (Report.class) {
            System.out.println(b.append("]}"));
        }
    }

    /** One exception of a chain; code is an RpcException's, of whichever Dubbo. */
    private static String link(Throwable t) {
        int code = -1;
        if (t.getClass().getSimpleName().equals("RpcException")) {
            try {
                code = (int) t.getClass().getMethod("getCode").invoke(t);
            } catch (ReflectiveOperationException e) {
                code = -2;
            }
        }
        return "{\"class\":" + quote(t.getClass().getName()) + ",\"code\":" + code + ",\"message\":" + quote(t.getMessage()) + "}";
    }

    private static String quote(String text) {
        if (text == null) {
            return "\"\"";
        }
        StringBuilder b = new StringBuilder("\"");
        for (char c : text.substring(0, Math.min(LONGEST, text.length())).toCharArray()) {
            if (c == '"' || c == '\\') {
                b.append('\\').append(c);
            } else if (c < ' ' || c > '~') {
                b.append(String.format("\\u%04x", (int) c));
            } else {
                b.append(c);
            }
        }
        return b.append('"').toString();
    }
}
