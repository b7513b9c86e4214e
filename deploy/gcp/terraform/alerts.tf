# Who is told of what. Where one line of the log is enough, the alert looks at the log; where it takes several, at a
# metric.
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

  failed = "${local.metric.deliveries} AND metric.labels.outcome=\"failed\""
  tries  = "${local.metric.deliveries} AND metric.labels.outcome=one_of(\"delivered\", \"failed\")"

  channels = concat(
    [for channel in google_monitoring_notification_channel.email : channel.name], var.notification_channels,
  )
  # An incident that nothing was heard of for this long is over.
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

# "If a metric was created recently, it could take up to 10 minutes to become available": an alert on one that isn't yet
# is refused with 404, and the provider doesn't try again. So: wait once. If it is refused all the same, apply again.
# https://github.com/hashicorp/terraform-provider-google/issues/11102
resource "terraform_data" "metrics_are_known" {
  triggers_replace = [
    google_logging_metric.deliveries.id,
    google_logging_metric.latency.id,
    google_logging_metric.busy.id,
  ]

  provisioner "local-exec" {
    command = "sleep ${var.metric_wait_seconds}"
  }
}

resource "google_monitoring_alert_policy" "failures" {
  project               = var.project
  display_name          = "${var.service_name}: deliveries fail"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels

  conditions {
    display_name = "More than ${var.failure_count} in 10 minutes"
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
    display_name = "More than ${format("%g", var.failure_share * 100)} % of an hour's"
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
      Updates did not reach their platform, though they were tried again. Some senders never send an event again.
      The log lines with `outcome` `failed` say which, and by `problem` why.

      What to do: ${var.runbook}#failures
    EOT
  }

  depends_on = [terraform_data.metrics_are_known]
}

resource "google_monitoring_alert_policy" "latency" {
  project               = var.project
  display_name          = "${var.service_name}: deliveries take long"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels

  conditions {
    display_name = "95th percentile above ${var.latency_p95_ms} ms for 10 minutes"
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
      One delivery in twenty takes longer than ${var.latency_p95_ms} ms. Most senders hang up after 10 s.

      What to do: ${var.runbook}#latency
    EOT
  }

  depends_on = [terraform_data.metrics_are_known]
}

# Each of them needs somebody, and the first one already: no update of that platform goes out until then.
resource "google_monitoring_alert_policy" "token_trouble" {
  project               = var.project
  display_name          = "${var.service_name}: a token doesn't do"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.channels

  conditions {
    display_name = "A platform refused our token, or a token can't be had"
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

      `upstream-denied`: the platform refuses the token, also a fresh one. `secret-unusable`: the token is missing,
      denied, empty or damaged. `secret-unreachable`: Secret Manager doesn't answer.

      What to do: ${var.runbook}#token-trouble
    EOT
  }

  depends_on = [google_project_service.api]
}

# A start that is refused says so on stderr, as text (main.py); what Cloud Run itself finds wrong with an instance (out
# of memory, a startup probe that fails) is in its system log.
resource "google_monitoring_alert_policy" "faults" {
  project               = var.project
  display_name          = "${var.service_name}: a fault of its own"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.channels

  conditions {
    display_name = "An internal error, a refused start, or an instance that failed"
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
      Revision `$${log.extracted_label.revision}`. An `internal-error` line has the stack in `stack_trace`; a refused start
      names every setting, or every place in relay.yaml, that is wrong.

      What to do: ${var.runbook}#faults
    EOT
  }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "busy" {
  project               = var.project
  display_name          = "${var.service_name}: too many calls under way"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels

  conditions {
    display_name = "More than ${var.busy_count} requests turned away in 10 minutes"
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
      A platform has its whole share of an instance's calls under way: it is slow, or there is more to do than before.

      What to do: ${var.runbook}#busy
    EOT
  }

  depends_on = [terraform_data.metrics_are_known]
}
