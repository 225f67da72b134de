package org.dubway.test;

import java.util.HashMap;
import java.util.Map;

/** What a consumer is asked: one line of name=value words. */
public final class Job {
    private final Map<String, String> words = new HashMap<>();

    public Job(String line) {
        for (String word : line.trim().split("\\s+")) {
            int at = word.indexOf('=');
            if (at < 0) {
                throw new IllegalArgumentException("no name=value: " + word);
            }
            words.put(word.substring(0, at), word.substring(at + 1));
        }
    }

    private Job(Map<String, String> words) {
        this.words.putAll(words);
    }

    /** The same job with another value of one word. */
    public Job with(String name, String value) {
        Job job = new Job(words);
        job.words.put(name, value);
        return job;
    }

    public String get(String name, String otherwise) {
        return words.getOrDefault(name, otherwise);
    }

    public int number(String name, int otherwise) {
        String value = words.get(name);
        return value == null ? otherwise : Integer.parseInt(value);
    }

    public String[] list(String name) {
        return get(name, "").split(",");
    }
}
