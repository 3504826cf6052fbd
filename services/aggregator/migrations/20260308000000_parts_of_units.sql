-- migrate:up

-- What a unit gives to parts of its metric, so that they can be cut by whom it belongs to. ms in units of 10^-6; in the
-- order of the definition's parts, NULL where the unit gives nothing (0: nothing is timed).
-- `part_names`: of a funnel why the unit dropped off; of a correlated stream whose each value is.
-- Both are NULL in rows from before there were these columns, until something changes them.
ALTER TABLE aggregator.unit_facts
    ADD COLUMN parts bigint[],
    ADD COLUMN part_names text[];

-- How long a funnel's unit took to each stage after the first, from its facts (MessagePack): each at or after the one
-- before, `settles` at the latest. Rows of funnels without reasons, which are the many, say it no other way.
CREATE FUNCTION aggregator.stage_times(facts bytea, settles bigint) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    place int := 0;
    slots int;
    entries int;
    texts int;
    lead int;
    moment bigint;
    reached bigint;
    before bigint;
    begun bigint;
    took bigint[] := '{}';
BEGIN
    IF facts IS NULL OR settles IS NULL THEN
        RETURN NULL;
    END IF;
    facts := facts || ''::bytea;            -- in one piece, taken out of storage once
    lead := get_byte(facts, place);         -- arrays: 9x of so many, dc and two bytes
    place := place + 1;
    IF lead = 220 THEN
        slots := get_byte(facts, place) * 256 + get_byte(facts, place + 1);
        place := place + 2;
    ELSE
        slots := lead - 144;
    END IF;
    FOR slot IN 1..slots LOOP
        lead := get_byte(facts, place);
        place := place + 1;
        IF lead = 220 THEN
            entries := get_byte(facts, place) * 256 + get_byte(facts, place + 1);
            place := place + 2;
        ELSE
            entries := lead - 144;
        END IF;
        reached := NULL;
        FOR entry IN 1..entries LOOP
            texts := get_byte(facts, place) - 145;
            -- Times since 2000 are eight bytes, after one that says so.
            moment := ('x' || encode(substring(facts FROM place + 3 FOR 8), 'hex'))::bit(64)::bigint;
            place := place + 10;
            IF reached IS NULL AND (slot = 1 OR (moment >= before AND moment <= settles)) THEN
                reached := moment;
                EXIT WHEN slot > 1 AND slot = slots;
            END IF;
            FOR word IN 1..texts LOOP
                lead := get_byte(facts, place);
                IF lead < 192 THEN
                    place := place + 1 + lead - 160;
                ELSIF lead = 217 THEN
                    place := place + 2 + get_byte(facts, place + 1);
                ELSE
                    place := place + 3 + get_byte(facts, place + 1) * 256 + get_byte(facts, place + 2);
                END IF;
            END LOOP;
        END LOOP;
        IF reached IS NULL THEN
            RETURN took;
        END IF;
        IF slot = 1 THEN
            begun := reached;
        ELSE
            took := took || (reached - begun) * 1000;
        END IF;
        before := reached;
    END LOOP;
    RETURN took;
END
$$;

-- migrate:down

DROP FUNCTION aggregator.stage_times(bytea, bigint);
ALTER TABLE aggregator.unit_facts DROP COLUMN parts, DROP COLUMN part_names;
