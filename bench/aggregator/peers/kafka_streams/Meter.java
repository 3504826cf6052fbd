import java.util.concurrent.CountDownLatch;

/** The time from the first event that a topology takes to the last one of so many that it is done with. */
final class Meter {
    private static final int PROGRESS_EVERY = 50_000;

    private final long events;
    private final CountDownLatch over = new CountDownLatch(1);
    private long began, done;
    private volatile double seconds;

    Meter(long events) {
        this.events = events;
    }

    /** Whether all events are done, so that whatever else the topic has is to be passed over. */
    boolean isOver() {
        return done == events;
    }

    void taken() {
        if (began == 0) {
            Main.tell("started");
            began = System.nanoTime();
        }
    }

    void count() {
        done++;
        if (done == events) {
            seconds = (System.nanoTime() - began) / 1e9;
            over.countDown();
        } else if (done % PROGRESS_EVERY == 0) {
            Main.tell("progress", "events", done);
        }
    }

    /** How many events are done; for whoever has waited for the last. */
    long done() {
        return done;
    }

    /** Waits for the last event; returns the seconds. */
    double await() throws InterruptedException {
        over.await();
        return seconds;
    }
}
