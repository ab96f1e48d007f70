"""The closed list of things a domain must never do to the authority that calls it.

Deliberately absent: severity. Each of them is refused.
"""

from __future__ import annotations

from enum import StrEnum


class ViolationType(StrEnum):
    """Name a crossing of the authority boundary."""

    TOKEN_GRANT = "token_grant"
    TOKEN_REQUEST = "token_request"
    TOKEN_MODIFY = "token_modify"
    TOKEN_REVOKE = "token_revoke"
    TOKEN_REGISTRY_QUERY = "token_registry_query"
    TOKEN_ENUMERATION = "token_enumeration"
    TRIGGER_SCHEDULE = "trigger_schedule"
    CRON_REGISTER = "cron_register"
    BATCH_SCHEDULE = "batch_schedule"
    STAGE3_RECURSIVE_INVOKE = "stage3_recursive_invoke"
    STAGE2_DIRECT_INVOKE = "stage2_direct_invoke"
    EXECUTION_FORK = "execution_fork"
    THREAD_SPAWN = "thread_spawn"
    DAEMON_THREAD_SPAWN = "daemon_thread_spawn"
    PROCESS_SPAWN = "process_spawn"
    MULTIPROCESSING_USE = "multiprocessing_use"
    AUDIT_LOGS_READ = "audit_logs_read"
    AUDIT_LOGS_FILTER = "audit_logs_filter"
    AUDIT_LOGS_MODIFY = "audit_logs_modify"
    AUDIT_LOGS_DELETE = "audit_logs_delete"
    AUDIT_LOGGING_SUPPRESS = "audit_logging_suppress"
    CONFIG_MODIFY = "config_modify"
    DOMAIN_CONFIG_MODIFY = "domain_config_modify"
    RESOURCE_LIMITS_MODIFY = "resource_limits_modify"
    SAFETY_CHECKS_DISABLE = "safety_checks_disable"
    BACKGROUND_LOOP_MAINTAIN = "background_loop_maintain"
    CALLBACK_REGISTER = "callback_register"
    AUTONOMOUS_CONTINUATION = "autonomous_continuation"
    CONTINUATION_HOOK_REGISTER = "continuation_hook_register"
    DELAYED_WORK_ENQUEUE = "delayed_work_enqueue"
    CONTEXT_INSPECTION = "context_inspection"
    SYSTEM_STATE_ACCESS = "system_state_access"
    SCHEDULED_JOBS_ENUMERATION = "scheduled_jobs_enumeration"
    NETWORK_ACCESS = "network_access"
    FILESYSTEM_ACCESS = "filesystem_access"
