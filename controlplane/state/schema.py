"""The tables and functions of a database node: the same on the installation's own database and on every other.

A slot is served by one node at a time. What says so is ``state_held`` on the node itself, read in the same statement as the
state: an edge with an old map is turned away and can't write past a move.
"""

from __future__ import annotations

from typing import LiteralString

import psycopg

from tidegate.core.partition import SLOTS

# kinds: 0 session, 1 user, 2 shared. A value that is null is a tombstone: it keeps the version for an hour.
# era: 0 is kept for good; else the generation of the cache that the entry stands in for, worth nothing in another one.
V1: LiteralString = """
CREATE TABLE state_held (
    slot smallint PRIMARY KEY,
    epoch bigint NOT NULL,
    serving boolean NOT NULL,
    moved_to integer,
    frozen_until timestamptz,
    token text
);
CREATE TABLE state_entry (
    tenant text COLLATE "C" NOT NULL,
    kind smallint NOT NULL CHECK (kind BETWEEN 0 AND 2),
    owner text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    slot smallint NOT NULL,
    version bigint NOT NULL,
    value bytea,
    sealed boolean NOT NULL DEFAULT false,
    written_at timestamptz NOT NULL,
    expires_at timestamptz,
    idle_until timestamptz,
    era integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, kind, owner, key)
);
CREATE INDEX state_entry_slot ON state_entry (slot);
CREATE INDEX state_entry_expires ON state_entry (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX state_entry_idle ON state_entry (idle_until) WHERE idle_until IS NOT NULL;
CREATE TABLE state_version (
    tenant text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    owner text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    slot smallint NOT NULL,
    value bytea NOT NULL,
    sealed boolean NOT NULL,
    written_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, kind, owner, key, version),
    FOREIGN KEY (tenant, kind, owner, key) REFERENCES state_entry ON DELETE CASCADE
);
CREATE INDEX state_version_slot ON state_version (slot);
CREATE TABLE state_op (
    id text COLLATE "C" PRIMARY KEY,
    slot smallint NOT NULL,
    version bigint NOT NULL,
    result text NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX state_op_slot ON state_op (slot);
CREATE INDEX state_op_at ON state_op (at);
CREATE TABLE state_size (
    slot smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    keys bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (slot, tenant, kind)
);

CREATE FUNCTION state_count() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was state_entry := CASE WHEN TG_OP = 'INSERT' THEN NULL ELSE OLD END;
    is_now state_entry := CASE WHEN TG_OP = 'DELETE' THEN NULL ELSE NEW END;
    one state_entry := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    more_keys integer := (is_now.value IS NOT NULL)::integer - (was.value IS NOT NULL)::integer;
    more_bytes integer := coalesce(octet_length(is_now.key) + octet_length(is_now.value), 0)
                        - coalesce(octet_length(was.key) + octet_length(was.value), 0);
BEGIN
    IF more_keys <> 0 OR more_bytes <> 0 THEN
        INSERT INTO state_size AS u VALUES (one.slot, one.tenant, one.kind, more_keys, more_bytes)
        ON CONFLICT (slot, tenant, kind) DO UPDATE
        SET keys = u.keys + excluded.keys, bytes = u.bytes + excluded.bytes;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER state_count AFTER INSERT OR UPDATE OR DELETE ON state_entry FOR EACH ROW EXECUTE FUNCTION state_count();

CREATE FUNCTION state_alive(e state_entry, era integer, at timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT e.value IS NOT NULL AND (e.expires_at IS NULL OR e.expires_at > at)
       AND (e.idle_until IS NULL OR e.idle_until > at) AND (e.era = 0 OR e.era = era)
$$;

-- Put a value (null: delete) if the version is the expected one (null: whatever it is, 0: absent).
-- status: ok; absent (nothing was there to delete); conflict (version: the present one); done (the operation was carried out
-- before, result: what it gave); moved (hint: to which node); frozen (the slot is being copied).
CREATE FUNCTION state_swap(
    p_tenant text, p_kind integer, p_owner text, p_key text, p_slot integer, p_expected bigint, p_value bytea,
    p_sealed boolean, p_ttl_ms bigint, p_idle_ms bigint, p_era integer, p_op text, p_result text,
    OUT status text, OUT version bigint, OUT result text, OUT hint integer
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    held state_held;
    old state_entry;
    at timestamptz;
    alive boolean;
    new_version bigint;
BEGIN
    SELECT * INTO held FROM state_held h WHERE h.slot = p_slot FOR SHARE;
    IF held.serving IS NOT TRUE THEN
        status := 'moved'; hint := held.moved_to; RETURN;
    END IF;
    IF held.frozen_until > clock_timestamp() THEN
        status := 'frozen'; RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(concat_ws(chr(1), p_tenant, p_kind, p_owner, p_key), 0));
    at := clock_timestamp();
    IF p_op IS NOT NULL THEN
        SELECT 'done', o.version, o.result INTO status, version, result FROM state_op o WHERE o.id = p_op;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    SELECT * INTO old FROM state_entry e
    WHERE e.tenant = p_tenant AND e.kind = p_kind AND e.owner = p_owner AND e.key = p_key;
    alive := FOUND AND state_alive(old, p_era, at);
    IF p_expected IS NOT NULL AND p_expected <> (CASE WHEN alive THEN old.version ELSE 0 END) THEN
        status := 'conflict'; version := CASE WHEN alive THEN old.version ELSE 0 END; RETURN;
    END IF;
    new_version := greatest(coalesce(old.version, 0) + 1, (extract(epoch FROM at) * 1000000)::bigint);
    version := new_version;
    status := CASE WHEN p_value IS NULL AND NOT alive THEN 'absent' ELSE 'ok' END;
    result := p_result;
    IF p_value IS NULL THEN
        DELETE FROM state_version v
        WHERE v.tenant = p_tenant AND v.kind = p_kind AND v.owner = p_owner AND v.key = p_key;
    ELSIF alive AND p_kind > 0 THEN
        INSERT INTO state_version
        VALUES (p_tenant, p_kind, p_owner, p_key, old.version, p_slot, old.value, old.sealed, old.written_at);
        DELETE FROM state_version v
        WHERE v.tenant = p_tenant AND v.kind = p_kind AND v.owner = p_owner AND v.key = p_key AND v.version < (
            SELECT w.version FROM state_version w
            WHERE w.tenant = p_tenant AND w.kind = p_kind AND w.owner = p_owner AND w.key = p_key
            ORDER BY w.version DESC OFFSET 9 LIMIT 1);
    END IF;
    INSERT INTO state_entry AS e
    VALUES (p_tenant, p_kind, p_owner, p_key, p_slot, new_version, p_value, p_sealed, at,
            CASE WHEN p_value IS NULL THEN at + interval '1 hour'
                 WHEN p_ttl_ms IS NOT NULL THEN at + p_ttl_ms * interval '1 millisecond' END,
            CASE WHEN p_value IS NOT NULL AND p_idle_ms IS NOT NULL THEN at + p_idle_ms * interval '1 millisecond' END,
            p_era)
    ON CONFLICT (tenant, kind, owner, key) DO UPDATE
    SET version = excluded.version, value = excluded.value, sealed = excluded.sealed, written_at = excluded.written_at,
        expires_at = excluded.expires_at, idle_until = excluded.idle_until, era = excluded.era;
    IF p_op IS NOT NULL THEN
        INSERT INTO state_op VALUES (p_op, p_slot, new_version, coalesce(p_result, ''), at);
    END IF;
END
$$;
"""
STEPS: tuple[LiteralString, ...] = (V1,)
UNDO = """
DROP FUNCTION state_swap;
DROP FUNCTION state_alive;
DROP TABLE state_size, state_op, state_version, state_entry, state_held;
DROP FUNCTION state_count;
"""
HOLD_ALL = f"INSERT INTO state_held SELECT slot, 0, true FROM generate_series(0, {SLOTS - 1}) AS slot;"  # noqa: S608 - a number


async def prepare(connection: psycopg.AsyncConnection) -> None:
    """Bring a node to the newest schema; the caller commits. The installation's own database gets there by migrations."""
    await connection.execute("SELECT pg_advisory_xact_lock(74108)")
    await connection.execute("CREATE TABLE IF NOT EXISTS state_schema (version integer NOT NULL)")
    cursor = await connection.execute("SELECT coalesce(max(version), 0) FROM state_schema")
    row = await cursor.fetchone()
    present = int(row[0]) if row is not None else 0
    for number, step in enumerate(STEPS[present:], start=present + 1):
        await connection.execute(step)
        await connection.execute("INSERT INTO state_schema VALUES (%s)", [number])
