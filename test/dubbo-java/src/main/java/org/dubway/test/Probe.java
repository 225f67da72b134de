package org.dubway.test;

import java.util.concurrent.CompletableFuture;

/** The service that all peers share. Its Go form is in test/dubbo-go. */
public interface Probe {
    /** Returns its argument. */
    String echo(String text);

    /** Returns the provider's name, with "/group/version" behind it for the grouped service. */
    String who();

    /** Returns the request's attachment of that name, and puts it, with "!", into the answer's "reply". */
    String attach(String name);

    /** Throws: "checked", "runtime" or "unknown", a class that the consumer does not have. */
    String fail(String kind) throws ProbeException;

    /** Answers from another thread. */
    CompletableFuture<String> later(String text);

    /** Answers after so many milliseconds. */
    String sleep(int millis);

    /** Counts a call of a name; called one-way. */
    void tell(String name);

    /** Returns how often tell was called with a name. */
    int told(String name);

    /** Calls the listener back three times. */
    void subscribe(String name, Listener listener);

    /** Is called by the provider. */
    interface Listener {
        void changed(String text);
    }
}
