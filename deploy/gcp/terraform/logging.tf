# The metrics from the log lines of the function (handlers/inbound/request_log.py), and the exclusion of some lines of
# Cloud Run's request log. Use only labels with few values, because each combination of values is a time series. The
# dataset and the delivery ID have unlimited numbers of values.
# https://cloud.google.com/logging/docs/logs-based-metrics
# https://cloud.google.com/logging/docs/view/logging-query-language

locals {
  this_service = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.service_name}\""

  # Every request has an outcome, except for GET /health, GET /openapi.json, and GET / in a browser. A dry run delivers
  # nothing. Its outcome is "dry_run", or "failed" after a failure.
  deliveries = "${local.this_service} AND jsonPayload.outcome:* AND NOT jsonPayload.dry_run=true"
  # The requests for which the function called a provider, or failed before the call. The requests of unauthenticated
  # callers have the outcome "rejected", and are not among them. With the queue, each push to POST /deliveries is such a
  # request, and its outcome can also be "lost" or "parked".
  tried = "${local.deliveries} AND jsonPayload.outcome=(\"delivered\" OR \"failed\" OR \"lost\" OR \"parked\")"
  # The requests whose sender waits for the outcome. With the queue, a sender gets its response once Pub/Sub has the
  # updates of the event ("queued"). No sender waits for a push, which can take until its own, longer deadline.
  by_senders = join(" AND ", [
    local.deliveries,
    "jsonPayload.outcome=(\"delivered\" OR \"failed\" OR \"queued\")",
    "NOT jsonPayload.sender=\"queue\"",
  ])

  # The log line of an event with several updates names each problem once, such as "busy+upstream-denied". A failure
  # that an unauthenticated caller causes has the outcome "rejected". These filters must not match such a failure,
  # because it must not trigger an alert. The parentheses are necessary: OR takes precedence over AND.
  problems = {
    for name, alternatives in {
      token_trouble = "upstream-denied|secret-unusable|secret-unreachable"
      fault         = "internal-error"
      busy          = "busy"
    } : name => "(jsonPayload.problem=~\"(^|[+])(${alternatives})([+]|$)\" AND NOT jsonPayload.outcome=\"rejected\")"
  }
}

resource "google_logging_metric" "deliveries" {
  project     = var.project
  name        = "${var.service_name}/deliveries"
  description = "Requests with an event, by outcome."
  filter      = local.deliveries

  label_extractors = {
    outcome  = "EXTRACT(jsonPayload.outcome)"
    sender   = "EXTRACT(jsonPayload.sender)"
    provider = "EXTRACT(jsonPayload.provider)"
    hook     = "EXTRACT(jsonPayload.hook)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
    labels {
      key         = "outcome"
      description = "delivered, rejected, ignored, queued, failed, lost, or parked."
    }
    labels {
      key         = "sender"
      description = "The name of the sender, or queue for POST /deliveries. Empty if the sender isn't authenticated."
    }
    labels {
      key         = "provider"
      description = "apify, data.world, or apify+data.world. Empty if the provider is unknown."
    }
    labels {
      key         = "hook"
      description = "The name of the hook. Empty for a native event."
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_logging_metric" "latency" {
  project         = var.project
  name            = "${var.service_name}/latency"
  description     = "Time from the start of a request to its response, including retries and waits, in milliseconds."
  filter          = local.by_senders
  value_extractor = "EXTRACT(jsonPayload.duration_ms)"

  label_extractors = {
    provider = "EXTRACT(jsonPayload.provider)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "ms"
    labels {
      key         = "provider"
      description = "apify, data.world, or apify+data.world."
    }
  }

  # From 10 ms to 60 s. Each bound is 25% above the previous bound, which limits the error of a percentile.
  bucket_options {
    exponential_buckets {
      scale              = 10
      growth_factor      = 1.25
      num_finite_buckets = 39
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_logging_metric" "attempts" {
  project         = var.project
  name            = "${var.service_name}/attempts"
  description     = "Attempts per delivery. For an event with several updates, the highest number of attempts."
  filter          = "${local.tried} AND jsonPayload.attempts>=1"
  value_extractor = "EXTRACT(jsonPayload.attempts)"

  label_extractors = {
    provider = "EXTRACT(jsonPayload.provider)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "1"
    labels {
      key         = "provider"
      description = "apify, data.world, or apify+data.world."
    }
  }

  bucket_options {
    explicit_buckets {
      bounds = [1, 2, 3, 4, 5, 6, 8, 12]
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_logging_metric" "token_trouble" {
  project     = var.project
  name        = "${var.service_name}/token-trouble"
  description = "Authenticated requests that failed because a provider denied access, or a token was unavailable."
  filter      = "${local.this_service} AND ${local.problems.token_trouble}"

  label_extractors = {
    problem  = "EXTRACT(jsonPayload.problem)"
    provider = "EXTRACT(jsonPayload.provider)"
    hook     = "EXTRACT(jsonPayload.hook)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
    labels {
      key         = "problem"
      description = "upstream-denied, secret-unusable, or secret-unreachable. A plus sign separates several problems."
    }
    labels {
      key         = "provider"
      description = "apify, data.world, or apify+data.world."
    }
    labels {
      key         = "hook"
      description = "The name of the hook. Empty for a native event."
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_logging_metric" "busy" {
  project     = var.project
  name        = "${var.service_name}/busy"
  description = "Authenticated requests with a 503 because of too many concurrent calls to a provider."
  # Leave out the updates from the queue: Pub/Sub sends an update again if the instance has no free slot for it.
  filter = "${local.this_service} AND ${local.problems.busy} AND NOT jsonPayload.sender=\"queue\""

  label_extractors = {
    provider = "EXTRACT(jsonPayload.provider)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
    labels {
      key         = "provider"
      description = "apify, data.world, or apify+data.world."
    }
  }

  depends_on = [google_project_service.api]
}

# Some senders can set only the URL of a request (Airbyte, url-token), so that the URL contains their secret. Cloud Run
# writes whole URLs to the request log. Exclude every URL with a query, because ?token= has many encodings (%74oken=).
# Also exclude %3F: if a sender encodes the question mark, the function returns 404, but the URL still contains the
# secret. The function's own log line of the request has the same facts without the query, so the log stays complete.
# The exclusion applies to the _Default sink. Any other sink of the project, a folder, or an organization needs an
# exclusion of its own.
# https://cloud.google.com/logging/docs/export/configure_export_v2
resource "google_logging_project_exclusion" "queries" {
  project     = var.project
  name        = "${var.service_name}-queries"
  description = "Lines of the request log with a query in the URL. The query can contain the secret of a sender."
  filter = join(" AND ", [
    "log_id(\"run.googleapis.com/requests\")", local.this_service, "httpRequest.requestUrl=~\"[?]|%3[Ff]\"",
  ])
  depends_on = [google_project_service.api]
}
