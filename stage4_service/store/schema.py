"""The tables beside Stage-4's log.

`plans` holds what became of each submission, `caller_log` who may read which entry of the log.
Deliberately absent: plan documents, parameters, credentials.
"""

from __future__ import annotations

from typing import Final

from servicekit.store.ledger import Schema

STAGE4_SCHEMA: Final = Schema(
    name="stage4",
    version=1,
    statements=(
        """CREATE TABLE plans (
            number INTEGER PRIMARY KEY,
            plan_id TEXT NOT NULL UNIQUE,
            request_id TEXT NOT NULL,
            caller TEXT NOT NULL,
            user_id TEXT NOT NULL,
            plan_digest BLOB NOT NULL,
            steps INTEGER NOT NULL,
            state TEXT NOT NULL,
            created_us INTEGER NOT NULL,
            ended_us INTEGER,
            reason TEXT NOT NULL DEFAULT '',
            message TEXT NOT NULL DEFAULT '',
            step INTEGER,
            effects TEXT,
            executed_plan_id TEXT NOT NULL DEFAULT '',
            result_json BLOB NOT NULL DEFAULT x'',
            receipt BLOB NOT NULL DEFAULT x''
        ) STRICT""",
        "CREATE INDEX plans_by_request ON plans (caller, user_id, request_id)",
        "CREATE INDEX plans_by_caller ON plans (caller, number)",
        "CREATE INDEX plans_running ON plans (plan_id) WHERE state = 'running'",
        """CREATE TABLE caller_log (
            caller TEXT NOT NULL,
            seq INTEGER NOT NULL,
            PRIMARY KEY (caller, seq)
        ) STRICT, WITHOUT ROWID""",
    ),
)
