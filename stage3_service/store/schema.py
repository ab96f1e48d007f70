"""The tables beside the log. The log's own tables belong to `servicekit.store`."""

from __future__ import annotations

from servicekit.store.outcome_keys import OUTCOME_KEYS
from servicekit.store.schema import Schema

SCHEMA = Schema(
    name="stage3",
    version=3,
    statements=(
        # `document` is the immutable token; the columns are what becomes of it.
        """
        CREATE TABLE tokens (
            token_id TEXT PRIMARY KEY,
            token_key BLOB NOT NULL UNIQUE CHECK (length(token_key) = 32),
            document BLOB NOT NULL,
            issued_us INTEGER NOT NULL,
            invocations INTEGER NOT NULL DEFAULT 0,
            response_bytes INTEGER NOT NULL DEFAULT 0,
            first_used_us INTEGER,
            expiry_recorded INTEGER NOT NULL DEFAULT 0
        ) STRICT
        """,
        "CREATE INDEX tokens_by_issue ON tokens (issued_us, token_id)",
        # A tombstone outlives its token: it has no foreign key on purpose.
        """
        CREATE TABLE revocations (
            token_key BLOB PRIMARY KEY CHECK (length(token_key) = 32),
            token_id TEXT NOT NULL,
            revoked_us INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        # A token's starts are numbered from 1 in the order of their time, so that how many lie in a
        # window is the difference of two numbers, whatever the limit.
        """
        CREATE TABLE plan_starts (
            token_id TEXT NOT NULL,
            number INTEGER NOT NULL,
            started_us INTEGER NOT NULL,
            plan_id TEXT NOT NULL,
            PRIMARY KEY (token_id, number)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX plan_starts_by_time ON plan_starts (token_id, started_us, number)",
        # What the plan was answered is in `sealed`, under the key `key_id`, bound to this row.
        """
        CREATE TABLE plans (
            plan_id TEXT PRIMARY KEY,
            caller TEXT NOT NULL,
            user_id TEXT NOT NULL,
            request_id TEXT NOT NULL,
            plan_digest BLOB NOT NULL,
            token_key BLOB NOT NULL,
            token_id TEXT NOT NULL,
            steps INTEGER NOT NULL,
            running_step INTEGER,
            admitted_us INTEGER NOT NULL,
            ended_us INTEGER,
            kind TEXT,
            effects TEXT,
            reason TEXT,
            step INTEGER,
            key_id TEXT,
            sealed BLOB
        ) STRICT
        """,
        "CREATE UNIQUE INDEX plans_by_request ON plans (caller, user_id, request_id)",
        "CREATE INDEX plans_running ON plans (token_id) WHERE kind IS NULL",
        "CREATE INDEX plans_by_end ON plans (ended_us) WHERE ended_us IS NOT NULL",
        # Identifiers of plans that were refused, or whose row was erased: a plan has one terminal
        # event.
        "CREATE TABLE spent_plans (plan_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
        # Tombstones, kept for good and small for it: what is left of a request once its outcome
        # was erased.
        """
        CREATE TABLE spent_requests (
            request_key BLOB PRIMARY KEY CHECK (length(request_key) = 16)
        ) STRICT, WITHOUT ROWID
        """,
        OUTCOME_KEYS,
        # What each domain elsewhere may show: the definition that was accepted last.
        """
        CREATE TABLE accepted_definitions (
            domain TEXT PRIMARY KEY,
            digest TEXT NOT NULL CHECK (length(digest) = 64),
            definition BLOB NOT NULL,
            accepted_by TEXT NOT NULL,
            accepted_us INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        # Salts live outside the tree so that a value can be erased without touching it.
        """
        CREATE TABLE salts (
            seq INTEGER NOT NULL,
            name TEXT NOT NULL,
            salt BLOB NOT NULL CHECK (length(salt) = 32),
            PRIMARY KEY (seq, name)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE halt (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            reason TEXT NOT NULL,
            since_us INTEGER NOT NULL
        ) STRICT
        """,
    ),
)
