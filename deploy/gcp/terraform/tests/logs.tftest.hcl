# The metrics, the exclusion from the request log, the alerts, and the dashboard.

mock_provider "google" {
  override_during = plan
}

variables {
  project = "my-project"
}

run "request_log_exclusion_matches_urls_with_a_query" {
  command = plan

  assert {
    condition = (
      strcontains(google_logging_project_exclusion.queries.filter, "log_id(\"run.googleapis.com/requests\")") &&
      strcontains(google_logging_project_exclusion.queries.filter, "resource.labels.service_name=\"dataset-relay\"")
    )
    error_message = "The exclusion must match only the request log of this service."
  }

  assert {
    condition = alltrue([
      for query in ["?token=s", "?%74oken=s", "?a=b&token=s", "%3ftoken=s", "%3Ftoken=s"] :
      can(regex(
        regex("requestUrl=~\"(.*)\"", google_logging_project_exclusion.queries.filter)[0], "https://f/hooks/x${query}"
      ))
    ])
    error_message = "The exclusion must match every encoding of a query."
  }

  assert {
    condition = !can(regex(
      regex("requestUrl=~\"(.*)\"", google_logging_project_exclusion.queries.filter)[0], "https://f.run.app/hooks/x"
    ))
    error_message = "The exclusion must not match a URL without a query."
  }
}

run "metrics_count_lines_of_the_service" {
  command = plan

  assert {
    condition = alltrue([
      for metric in [
        google_logging_metric.deliveries, google_logging_metric.latency, google_logging_metric.attempts,
        google_logging_metric.token_trouble, google_logging_metric.busy,
      ] :
      startswith(
        metric.filter, "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"dataset-relay\""
      )
    ])
    error_message = "Each metric must count only the log lines of this service."
  }

  assert {
    condition = alltrue([
      for metric in [
        google_logging_metric.deliveries, google_logging_metric.latency, google_logging_metric.attempts,
        google_logging_metric.token_trouble, google_logging_metric.busy,
      ] :
      length(setsubtract(keys(metric.label_extractors), ["outcome", "sender", "provider", "hook", "problem"])) == 0 &&
      toset(keys(metric.label_extractors)) == toset([for label in metric.metric_descriptor[0].labels : label.key])
    ])
    error_message = "Each metric must declare and extract the same labels, all with few values."
  }

  assert {
    condition = (
      google_logging_metric.latency.bucket_options[0].exponential_buckets[0].scale <= 10 &&
      google_logging_metric.latency.bucket_options[0].exponential_buckets[0].scale * pow(
        google_logging_metric.latency.bucket_options[0].exponential_buckets[0].growth_factor,
        google_logging_metric.latency.bucket_options[0].exponential_buckets[0].num_finite_buckets
      ) >= 60000
    )
    error_message = "The buckets must range from 10 ms to 60 s."
  }
}

run "alerts_link_to_the_runbook" {
  command = plan

  variables {
    alert_emails          = ["data-team@example.com"]
    notification_channels = ["projects/my-project/notificationChannels/1"]
    runbook               = "https://example.com/RUNBOOK.md"
  }

  assert {
    condition = alltrue([
      for section, alert in {
        failures      = google_monitoring_alert_policy.failures
        latency       = google_monitoring_alert_policy.latency
        token-trouble = google_monitoring_alert_policy.token_trouble
        faults        = google_monitoring_alert_policy.faults
        busy          = google_monitoring_alert_policy.busy
      } :
      strcontains(alert.documentation[0].content, "https://example.com/RUNBOOK.md#${section}\n") &&
      length(alert.notification_channels) == 2 && alert.alert_strategy[0].auto_close == "3600s" &&
      contains(["WARNING", "ERROR", "CRITICAL"], alert.severity)
    ])
    error_message = "Each alert must link to its section of the runbook, notify every channel, and close automatically."
  }

  assert {
    condition = alltrue([
      for alert in [google_monitoring_alert_policy.token_trouble, google_monitoring_alert_policy.faults] :
      length(alert.conditions[0].condition_matched_log) == 1 &&
      length(alert.alert_strategy[0].notification_rate_limit) == 1
    ])
    error_message = "Each alert that matches the log must have a rate limit for notifications."
  }
}

run "dashboard_shows_every_metric" {
  command = plan

  assert {
    condition = alltrue([
      for metric in [
        google_logging_metric.deliveries, google_logging_metric.latency, google_logging_metric.attempts,
        google_logging_metric.token_trouble, google_logging_metric.busy,
      ] :
      strcontains(
        google_monitoring_dashboard.relay.dashboard_json, "logging.googleapis.com/user/${metric.name}\\\""
      )
    ])
    error_message = "The dashboard must show each metric."
  }

  assert {
    condition = length([
      for tile in jsondecode(google_monitoring_dashboard.relay.dashboard_json).mosaicLayout.tiles : tile
      if tile.xPos + tile.width <= 48
    ]) == 12
    error_message = "The dashboard must have twelve tiles, all within its width."
  }
}
