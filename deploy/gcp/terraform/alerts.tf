# The alert policies, and the notification channels. A policy that one log line can trigger matches the log directly. A
# policy with a threshold uses a log-based metric.
# https://cloud.google.com/monitoring/alerts
# https://cloud.google.com/logging/docs/alerting/log-based-alerts

locals {
  metric = {
    for key, name in {
      deliveries    = google_logging_metric.deliveries.name
      latency       = google_logging_metric.latency.name
      attempts      = google_logging_metric.attempts.name
      token_trouble = google_logging_metric.token_trouble.name
      busy          = google_logging_metric.busy.name
    } : key => "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${name}\""
  }

  # The requests of senders. Without the pushes of the queue (sender "queue"): an update that fails stays in the queue,
  # and Pub/Sub sends it again. The alerts for waiting updates and for lost updates cover the updates in the queue.
  from_senders = "${local.metric.deliveries} AND metric.labels.sender!=\"queue\""
  failed       = "${local.from_senders} AND metric.labels.outcome=\"failed\""
  tries        = "${local.from_senders} AND metric.labels.outcome=one_of(\"delivered\", \"failed\", \"queued\")"

  # https://cloud.google.com/monitoring/api/metrics_gcp_p_z#gcp-pubsub
  oldest_update = join(" AND ", [
    "resource.type=\"pubsub_subscription\"",
    "resource.labels.subscription_id=one_of(${join(", ", [
      for provider in local.queue_providers : "\"${local.topics[provider]}\""
    ])})",
    "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\"",
  ])

  channels = concat(
    [for channel in google_monitoring_notification_channel.email : channel.name], var.notification_channels,
  )
  # Cloud Monitoring closes an incident after this time without new data.
  auto_close = "3600s"
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alert_emails)

  project      = var.project
  display_name = "Dataset Relay"
  type         = "email"
  labels = {
    email_address = each.value
  }
  depends_on = [google_project_service.api]
}

# "If a metric was created recently, it could take up to 10 minutes to become available." Until then, Cloud Monitoring
# rejects an alert policy for the metric with 404, and the Terraform provider doesn't retry the request. Therefore, wait
# once after the creation of the metrics. If Cloud Monitoring still rejects a policy, run `terraform apply` again.
# https://github.com/hashicorp/terraform-provider-google/issues/11102
resource "terraform_data" "metrics_are_known" {
  triggers_replace = [
    google_logging_metric.deliveries.id,
    google_logging_metric.latency.id,
    google_logging_metric.busy.id,
    # Cloud Monitoring also rejects a policy for a label that it doesn't know yet.
    keys(google_logging_metric.deliveries.label_extractors),
  ]

  provisioner "local-exec" {
    command = "sleep ${var.metric_wait_seconds}"
  }
}

resource "google_monitoring_alert_policy" "failures" {
  project               = var.project
  display_name          = "${var.service_name}: failed deliveries"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels

  conditions {
    display_name = "More than ${var.failure_count} failed deliveries in 10 minutes"
    condition_threshold {
      filter          = local.failed
      comparison      = "COMPARISON_GT"
      threshold_value = var.failure_count
      duration        = "0s"
      aggregations {
        alignment_period     = "600s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  conditions {
    display_name = "More than ${format("%g", var.failure_share * 100)}% of the deliveries of an hour failed"
    condition_threshold {
      filter             = local.failed
      denominator_filter = local.tries
      comparison         = "COMPARISON_GT"
      threshold_value    = var.failure_share
      duration           = "0s"
      aggregations {
        alignment_period     = "3600s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
      denominator_aggregations {
        alignment_period     = "3600s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  alert_strategy {
    auto_close = local.auto_close
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      Updates did not reach their provider before the deadline, or the provider rejected them permanently. Some senders
      never send an event again. The log lines with the `outcome` `failed` show the updates. `problem` in these lines is
      the reason.

      Remedy: ${var.runbook}#failures
    EOT
  }

  depends_on = [terraform_data.metrics_are_known]
}

resource "google_monitoring_alert_policy" "latency" {
  project               = var.project
  display_name          = "${var.service_name}: slow deliveries"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels

  conditions {
    display_name = "95th percentile above ${var.latency_p95_ms} ms over 10 minutes"
    condition_threshold {
      filter          = local.metric.latency
      comparison      = "COMPARISON_GT"
      threshold_value = var.latency_p95_ms
      duration        = "0s"
      aggregations {
        alignment_period     = "600s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_PERCENTILE_95"
      }
    }
  }

  alert_strategy {
    auto_close = local.auto_close
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      One request in twenty takes longer than ${var.latency_p95_ms} ms. Most senders disconnect after 10 s.

      Remedy: ${var.runbook}#latency
    EOT
  }

  depends_on = [terraform_data.metrics_are_known]
}

# Alert at the first log line: no update of the provider, or of the hook with this token, succeeds until the token is
# available and the provider accepts it.
resource "google_monitoring_alert_policy" "token_trouble" {
  project               = var.project
  display_name          = "${var.service_name}: unusable token"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.channels

  conditions {
    display_name = "A provider denied access, or a token is unavailable"
    condition_matched_log {
      filter = "${local.this_service} AND ${local.problems.token_trouble}"
      label_extractors = {
        problem  = "EXTRACT(jsonPayload.problem)"
        provider = "EXTRACT(jsonPayload.provider)"
        hook     = "EXTRACT(jsonPayload.hook)"
      }
    }
  }

  alert_strategy {
    auto_close = local.auto_close
    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      Problem: $${log.extracted_label.problem}. Provider: $${log.extracted_label.provider}. Hook:
      $${log.extracted_label.hook}.

      `upstream-denied`: the provider refuses the newest version of the token. `secret-unusable`: the secret with the
      token is missing, denied, empty, or damaged. `secret-unreachable`: Secret Manager doesn't respond.

      Remedy: ${var.runbook}#token-trouble
    EOT
  }

  depends_on = [google_project_service.api]
}

# If the function refuses to start, main.py writes the reason to stderr as text, without jsonPayload. Cloud Run writes
# the failures of an instance, such as a lack of memory or a failed startup probe, to the system log.
resource "google_monitoring_alert_policy" "faults" {
  project               = var.project
  display_name          = "${var.service_name}: fault of the function"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.channels

  conditions {
    display_name = "An internal error, a refused start, or a failed instance"
    condition_matched_log {
      filter = join(" AND ", [local.this_service, "(${join(" OR ", [
        local.problems.fault,
        "textPayload:\"dataset-relay can't start\"",
        "(log_id(\"run.googleapis.com/varlog/system\") AND severity>=ERROR)",
      ])})"])
      label_extractors = {
        revision = "EXTRACT(resource.labels.revision_name)"
      }
    }
  }

  alert_strategy {
    auto_close = local.auto_close
    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      Revision: `$${log.extracted_label.revision}`. A log line with the problem `internal-error` has the stack in
      `stack_trace`. After a refused start, the log lists each mistake in the settings or in relay.yaml.

      Remedy: ${var.runbook}#faults
    EOT
  }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "busy" {
  project               = var.project
  display_name          = "${var.service_name}: too many concurrent calls"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels

  conditions {
    display_name = "The function returned 503 to more than ${var.busy_count} requests in 10 minutes"
    condition_threshold {
      filter          = local.metric.busy
      comparison      = "COMPARISON_GT"
      threshold_value = var.busy_count
      duration        = "0s"
      aggregations {
        alignment_period     = "600s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  alert_strategy {
    auto_close = local.auto_close
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      An instance makes as many concurrent calls to a provider as it may. The provider is slow, or the number of events
      has increased.

      Remedy: ${var.runbook}#busy
    EOT
  }

  depends_on = [terraform_data.metrics_are_known]
}

# Without a reducer, each subscription has an incident of its own.
resource "google_monitoring_alert_policy" "waiting_updates" {
  count = var.queue ? 1 : 0

  project               = var.project
  display_name          = "${var.service_name}: waiting updates"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels

  conditions {
    display_name = "The oldest update in the queue is older than ${var.waiting_seconds} s"
    condition_threshold {
      filter          = local.oldest_update
      comparison      = "COMPARISON_GT"
      threshold_value = var.waiting_seconds
      duration        = "0s"
      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  alert_strategy {
    auto_close = local.auto_close
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      Subscription: `$${resource.label.subscription_id}`. The oldest update has waited for more than
      ${var.waiting_seconds} s. No update is lost: Pub/Sub sends each update until the function delivers or parks it.

      Remedy: ${var.runbook}#waiting-updates
    EOT
  }

  depends_on = [google_project_service.api]
}

# Alert at the first log line: without an operator, no lost or parked update reaches its provider.
resource "google_monitoring_alert_policy" "lost_updates" {
  count = var.queue ? 1 : 0

  project               = var.project
  display_name          = "${var.service_name}: lost or parked updates"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels

  conditions {
    display_name = "The function removed an undelivered update from the queue"
    condition_matched_log {
      filter = "${local.this_service} AND jsonPayload.outcome=(\"parked\" OR \"lost\")"
      label_extractors = {
        outcome  = "EXTRACT(jsonPayload.outcome)"
        problem  = "EXTRACT(jsonPayload.problem)"
        provider = "EXTRACT(jsonPayload.provider)"
        hook     = "EXTRACT(jsonPayload.hook)"
      }
    }
  }

  alert_strategy {
    auto_close = local.auto_close
    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      Outcome: $${log.extracted_label.outcome}. Problem: $${log.extracted_label.problem}. Provider:
      $${log.extracted_label.provider}. Hook: $${log.extracted_label.hook}.

      `lost`: the update itself can never succeed. `parked`: the update failed for too long. The subscription
      `${var.service_name}-dead-letters` has the whole update.

      Remedy: ${var.runbook}#lost-updates
    EOT
  }

  depends_on = [google_project_service.api]
}
