package org.dubway.test;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.Map;

/**
 * Counts by name, in a file for each that is written as it counts, in the folder that the
 * environment's PROBE_COUNTS names; without one it counts nothing. What was counted is there however
 * the process ends, for whoever can see the folder. dubbo-go's peers do the same.
 */
final class Books {
    private static final Map<String, Books> BY_NAME = new HashMap<>();
    private final FileChannel file;
    private int n;

    private Books(Path path) throws IOException {
        if (Files.exists(path)) {
            n = Integer.parseInt(Files.readString(path).trim()); // of an earlier process
        }
        file = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.WRITE);
    }

    /** The folder, or null. */
    static Path folder() {
        String folder = System.getenv("PROBE_COUNTS");
        return folder == null ? null : Path.of(folder);
    }

    /** Counts one more of a name. */
    static synchronized void add(String name) {
        if (folder() == null) {
            return;
        }
        try {
            Books book = BY_NAME.get(name);
            if (book == null) {
                Files.createDirectories(folder());
                book = new Books(folder().resolve(name));
                BY_NAME.put(name, book);
            }
            book.n++;
            book.file.write(ByteBuffer.wrap((book.n + "\n").getBytes(StandardCharsets.US_ASCII)), 0);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Writes a line to the file notes beside the counts, and to the output. */
    static void note(String line) throws IOException {
        System.out.println(line);
        Files.writeString(folder().resolve("notes"), line + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }
}
