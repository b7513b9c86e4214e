# What the function's log lines (handlers/inbound/request_log.py) are counted by, and which lines of the platform's aren't kept.
# A metric's labels take few values each: never the dataset or the delivery, of which there is no end.
# https://cloud.google.com/logging/docs/logs-based-metrics
# https://cloud.google.com/logging/docs/view/logging-query-language

locals {
  this_service = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.service_name}\""

  # Every request has an outcome but those of GET /health and GET /openapi.json. A dry run delivers nothing. Its outcome
  # is "dry_run", or "failed" if it failed.
  deliveries = "${local.this_service} AND jsonPayload.outcome:* AND NOT jsonPayload.dry_run=true"
  # Those that reached out to a platform or meant to; what strangers try on a public address isn't among them.
  tried = "${local.deliveries} AND jsonPayload.outcome=(\"delivered\" OR \"failed\")"

  # Of an event with several updates, the line names each problem once: "busy+upstream-denied". A failure that an
  # unauthenticated caller causes has the outcome "rejected", and must neither be counted here nor cause an alert. The
  # brackets are necessary: OR binds tighter than AND.
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
  description = "Requests about an event, by what became of them."
  filter      = local.deliveries

  label_extractors = {
    outcome  = "EXTRACT(jsonPayload.outcome)"
    provider = "EXTRACT(jsonPayload.provider)"
    hook     = "EXTRACT(jsonPayload.hook)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
    labels {
      key         = "outcome"
      description = "delivered, rejected, ignored or failed"
    }
    labels {
      key         = "provider"
      description = "apify, data.world or apify+data.world; empty where it came to none"
    }
    labels {
      key         = "hook"
      description = "The hook's name; empty for a native event"
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_logging_metric" "latency" {
  project         = var.project
  name            = "${var.service_name}/latency"
  description     = "Milliseconds from a request's beginning to its answer, tries and waits included."
  filter          = local.tried
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
      description = "apify, data.world or apify+data.world"
    }
  }

  # From 10 ms to 60 s, each bound a quarter above the last: a percentile is right to within that.
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
  description     = "Tries that a delivery took; of an event with several updates, the most that one of them took."
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
      description = "apify, data.world or apify+data.world"
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
  description = "Authenticated requests that failed since a platform refused our token, or a token couldn't be had."
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
      description = "upstream-denied, secret-unusable, secret-unreachable; with + between them where there were several"
    }
    labels {
      key         = "provider"
      description = "apify, data.world or apify+data.world"
    }
    labels {
      key         = "hook"
      description = "The hook's name; empty for a native event"
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_logging_metric" "busy" {
  project     = var.project
  name        = "${var.service_name}/busy"
  description = "Authenticated requests that were turned away, as the platform had its share of calls under way."
  filter      = "${local.this_service} AND ${local.problems.busy}"

  label_extractors = {
    provider = "EXTRACT(jsonPayload.provider)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
    labels {
      key         = "provider"
      description = "apify, data.world or apify+data.world"
    }
  }

  depends_on = [google_project_service.api]
}

# Senders that can set nothing but a URL (Airbyte, url-token) have their secret in it, and the request log holds whole
# URLs. Every query is left out: ?token= can be spelt in many ways (%74oken=). Also %3F: a sender that encodes the
# question mark gets a 404, and has sent its secret all the same. Our own line says the same without the query, so
# nothing is lost.
# This is about the _Default sink: another one, of the project, a folder or an organisation, needs its own exclusion.
# https://cloud.google.com/logging/docs/export/configure_export_v2
resource "google_logging_project_exclusion" "queries" {
  project     = var.project
  name        = "${var.service_name}-queries"
  description = "Request log lines whose URL has a query, which may hold a sender's secret."
  filter = join(" AND ", [
    "log_id(\"run.googleapis.com/requests\")", local.this_service, "httpRequest.requestUrl=~\"[?]|%3[Ff]\"",
  ])
  depends_on = [google_project_service.api]
}
