package org.dubway.test;

/** A checked exception of the service's own. */
public class ProbeException extends Exception {
    private static final long serialVersionUID = 1L;
    private int code;

    public ProbeException() {}

    /** The one by which fastjson2 restores the message. */
    public ProbeException(String message) {
        super(message);
    }

    public ProbeException(String message, int code) {
        super(message);
        this.code = code;
    }

    public int getCode() {
        return code;
    }
}
