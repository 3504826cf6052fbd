import java.util.concurrent.CountDownLatch;

/** The time from the first event that a topology takes to the last that is in its window. */
final class Meter {
    private static final int PROGRESS_EVERY = 50_000;

    private final long events;
    private final boolean timed;
    private final CountDownLatch done = new CountDownLatch(1);
    private long began, folded;
    private volatile double seconds;

    /** While it is not `timed`, it says only how far it is, counting from 0 again afterwards. */
    Meter(long events, boolean timed) {
        this.events = events;
        this.timed = timed;
    }

    void taken() {
        if (began == 0) {
            if (timed) Main.tell("started");
            began = System.nanoTime();
        }
    }

    void folded() {
        folded++;
        if (folded == events) {
            seconds = (System.nanoTime() - began) / 1e9;
            done.countDown();
        } else if (folded % PROGRESS_EVERY == 0) {
            Main.tell("progress", "events", folded);
        }
    }

    /** Waits for the last event; returns the seconds. */
    double await() throws InterruptedException {
        done.await();
        return seconds;
    }
}
