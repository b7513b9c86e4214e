"""Payloads of senders, shortened to the fields that hooks use. The values are invented."""

from typing import Any


def apify_run(dataset: str, event_type: str = "ACTOR.RUN.SUCCEEDED") -> dict[str, Any]:
    """Return a payload of Apify. https://docs.apify.com/platform/integrations/webhooks/actions"""
    return {
        "userId": "wRwJZtadYvn4mBZmm",
        "createdAt": "2026-11-22T08:30:01.000Z",
        "eventType": event_type,
        "eventData": {"actorId": "mK8cGmdFbmSdEMQyj", "actorRunId": "kgrdsR4vbzWZUeePf"},
        "resource": {
            "id": "kgrdsR4vbzWZUeePf",
            "actId": "mK8cGmdFbmSdEMQyj",
            "startedAt": "2026-11-22T08:11:43.120Z",
            "finishedAt": "2026-11-22T08:29:58.871Z",
            "status": "SUCCEEDED",
            "stats": {"runTimeSecs": 1095.751, "computeUnits": 0.61},
            "exitCode": 0,
            "defaultDatasetId": dataset,
        },
    }


def github_workflow(**changes: Any) -> dict[str, Any]:
    """Return a payload of GitHub. https://docs.github.com/webhooks/webhook-events-and-payloads#workflow_run"""
    run = {
        "id": 19520441207,
        "name": "Build",
        "head_branch": "main",
        "head_sha": "9c1d3be07f5b2a66f0c0b7ce6a2f4d0a4d2f7e11",
        "path": ".github/workflows/build.yml",
        "run_number": 214,
        "run_attempt": 1,
        "event": "push",
        "status": "completed",
        "conclusion": "success",
        "html_url": "https://github.com/acme/products/actions/runs/19520441207",
        "created_at": "2026-11-22T08:12:00Z",
        "updated_at": "2026-11-22T08:31:40Z",
        "head_repository": {"full_name": "acme/products", "fork": False},
        **changes,
    }
    return {
        "action": "completed" if run["status"] == "completed" else "requested",
        "workflow_run": run,
        "workflow": {"id": 81204, "name": "Build", "state": "active"},
        "repository": {"id": 5150, "full_name": "acme/products", "default_branch": "main", "private": False},
        "sender": {"login": "jane", "type": "User"},
    }


def gitlab_pipeline(**changes: Any) -> dict[str, Any]:
    """Return a payload of GitLab. https://docs.gitlab.com/user/project/integrations/webhook_events/#pipeline-events"""
    return {
        "object_kind": "pipeline",
        "object_attributes": {
            "id": 90210,
            "iid": 77,
            "name": None,
            "ref": "main",
            "tag": False,
            "sha": "1b0d6f0c9a1e",
            "source": "push",
            "status": "success",
            "detailed_status": "passed",
            "stages": ["build", "publish"],
            "created_at": "2026-11-22 08:12:00 UTC",
            "finished_at": "2026-11-22 08:31:40 UTC",
            "duration": 1180,
            "variables": [],
            "url": "https://gitlab.com/acme/products/-/pipelines/90210",
            **changes,
        },
        "merge_request": None,
        "user": {"id": 9, "name": "Jane", "username": "jane", "email": "[REDACTED]"},
        "project": {
            "id": 88,
            "name": "Products",
            "path_with_namespace": "acme/products",
            "default_branch": "main",
            "web_url": "https://gitlab.com/acme/products",
        },
        "commit": {"id": "1b0d6f0c9a1e", "title": "Größere Preise 💶", "message": "Größere Preise 💶\n"},
        "builds": [{"id": 1, "stage": "build", "name": "build", "status": "success", "finished_at": None}],
    }


def dbt_run(**changes: Any) -> dict[str, Any]:
    """Return a payload of dbt. https://docs.getdbt.com/docs/deploy/webhooks"""
    return {
        "accountId": 42,
        "webhookId": "wsu_7Lq2",
        "eventId": "wev_30XkPq",
        "timestamp": "2026-11-22T08:31:41.105334187Z",
        "eventType": "job.run.completed",
        "webhookName": "relay",
        "data": {
            "jobId": "7001",
            "jobName": "Products, daily",
            "runId": "560031",
            "environmentId": "12",
            "environmentName": "Production",
            "dbtVersion": "versionless",
            "projectName": "Products",
            "runStatus": "Success",
            "runStatusCode": 10,
            "runStatusMessage": "None",
            "runReason": "scheduled",
            "runStartedAt": "2026-11-22T08:12:00Z",
            "runFinishedAt": "2026-11-22T08:31:40Z",
            **changes,
        },
    }


def airbyte_sync(**changes: Any) -> dict[str, Any]:
    """Return a payload of Airbyte.

    https://docs.airbyte.com/platform/cloud/managing-airbyte-cloud/manage-airbyte-cloud-notifications
    """
    return {
        "data": {
            "workspace": {"id": "2f1b", "name": "Acme", "url": "https://cloud.airbyte.com/workspaces/2f1b"},
            "connection": {"id": "c0de", "name": "Products", "url": "https://cloud.airbyte.com/connections/c0de"},
            "source": {"id": "50ce", "name": "Shop", "url": "https://cloud.airbyte.com/source/50ce"},
            "destination": {"id": "de57", "name": "Warehouse", "url": "https://cloud.airbyte.com/destination/de57"},
            "jobId": 31337,
            "startedAt": "2026-11-22T08:12:00Z",
            "finishedAt": "2026-11-22T08:31:40Z",
            "bytesEmitted": 1_048_576,
            "bytesCommitted": 1_048_576,
            "recordsEmitted": 12_480,
            "recordsCommitted": 12_480,
            "bytesEmittedFormatted": "1 MB",
            "bytesCommittedFormatted": "1 MB",
            "success": True,
            "durationInSeconds": 1180,
            "durationFormatted": "19 min 40 sec",
            **changes,
        }
    }
