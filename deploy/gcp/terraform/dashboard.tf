# The dashboard: first the outcomes of the deliveries, then the instances of the service.
# https://cloud.google.com/monitoring/dashboards/api-dashboard
# https://cloud.google.com/monitoring/api/metrics_gcp_p_z#gcp-run

locals {
  cloud_run = {
    for key, name in {
      requests  = "request_count"
      instances = "container/instance_count"
      cpu       = "container/cpu/utilizations"
      memory    = "container/memory/utilizations"
      startup   = "container/startup_latencies"
    } : key => "${local.this_service} AND metric.type=\"run.googleapis.com/${name}\""
  }

  tried_deliveries = join(" AND ", [
    local.metric.deliveries, "metric.labels.outcome=one_of(\"delivered\", \"failed\", \"lost\", \"parked\")",
  ])

  # For each chart: the type of its plot, the period and the aligner of its points, the labels that separate its time
  # series, and the threshold of the alert, if any. Each entry of `lines` has a filter, and the reducer that combines
  # the time series of the filter.
  charts = [
    {
      title = "Deliveries, by outcome"
      type  = "STACKED_BAR", period = "300s", align = "ALIGN_DELTA", by = ["outcome"], threshold = null
      lines = [{ filter = local.metric.deliveries, reduce = "REDUCE_SUM" }]
    },
    {
      title = "Delivered and failed deliveries, by provider"
      type  = "STACKED_BAR", period = "300s", align = "ALIGN_DELTA", by = ["provider"], threshold = null
      lines = [{ filter = local.tried_deliveries, reduce = "REDUCE_SUM" }]
    },
    {
      title = "Failed requests of senders in 10 minutes, by hook"
      type  = "STACKED_BAR", period = "600s", align = "ALIGN_DELTA", by = ["hook"], threshold = var.failure_count
      lines = [{ filter = local.failed, reduce = "REDUCE_SUM" }]
    },
    {
      title = "Latency of the responses to senders (ms)"
      type  = "LINE", period = "600s", align = "ALIGN_DELTA", by = [], threshold = var.latency_p95_ms
      lines = [
        for percentile in ["50", "95", "99"] :
        { filter = local.metric.latency, reduce = "REDUCE_PERCENTILE_${percentile}", legend = "p${percentile}" }
      ]
    },
    {
      title = "Attempts per delivery, 95th percentile, by provider"
      type  = "LINE", period = "600s", align = "ALIGN_DELTA", by = ["provider"], threshold = null
      lines = [{ filter = local.metric.attempts, reduce = "REDUCE_PERCENTILE_95" }]
    },
    {
      title = "Unusable tokens, by problem (an alert at the first one)"
      type  = "STACKED_BAR", period = "300s", align = "ALIGN_DELTA", by = ["problem"], threshold = null
      lines = [{ filter = local.metric.token_trouble, reduce = "REDUCE_SUM" }]
    },
    {
      title = "Requests with a 503 in 10 minutes because of too many calls, by provider"
      type  = "STACKED_BAR", period = "600s", align = "ALIGN_DELTA", by = ["provider"], threshold = var.busy_count
      lines = [{ filter = local.metric.busy, reduce = "REDUCE_SUM" }]
    },
    {
      title = "Requests per second, by class of the response"
      type  = "STACKED_AREA", period = "60s", align = "ALIGN_RATE", by = ["response_code_class"], threshold = null
      lines = [{ filter = local.cloud_run.requests, reduce = "REDUCE_SUM" }]
    },
    {
      title = "Instances, by state (the line is the maximum)"
      type  = "STACKED_AREA", period = "60s", align = "ALIGN_MAX", by = ["state"], threshold = var.max_instances
      lines = [{ filter = local.cloud_run.instances, reduce = "REDUCE_SUM" }]
    },
    {
      title = "CPU and memory utilization, 95th percentile"
      type  = "LINE", period = "60s", align = "ALIGN_DELTA", by = [], threshold = null
      lines = [
        for part in ["cpu", "memory"] :
        { filter = local.cloud_run[part], reduce = "REDUCE_PERCENTILE_95", legend = part }
      ]
    },
    {
      title = "Container startup latency (ms), 95th percentile"
      type  = "LINE", period = "300s", align = "ALIGN_DELTA", by = [], threshold = null
      lines = [{ filter = local.cloud_run.startup, reduce = "REDUCE_PERCENTILE_95" }]
    },
  ]

  # REDUCE_NONE keeps a line for each subscription.
  queue_charts = [
    {
      title = "Age of the oldest update in the queue (s), by subscription"
      type  = "LINE", period = "60s", align = "ALIGN_MAX", by = [], threshold = var.waiting_seconds
      lines = [{ filter = local.oldest_update, reduce = "REDUCE_NONE" }]
    },
  ]

  widgets = concat(
    [for chart in concat(local.charts, var.queue ? local.queue_charts : []) : {
      title = chart.title
      xyChart = {
        dataSets = [for line in chart.lines : {
          plotType           = chart.type
          targetAxis         = "Y1"
          minAlignmentPeriod = chart.period
          legendTemplate     = try(line.legend, "")
          timeSeriesQuery = {
            timeSeriesFilter = {
              filter = line.filter
              aggregation = {
                alignmentPeriod    = chart.period
                perSeriesAligner   = chart.align
                crossSeriesReducer = line.reduce
                groupByFields      = [for label in chart.by : "metric.label.${label}"]
              }
            }
          }
        }]
        thresholds = chart.threshold == null ? [] : [{ value = chart.threshold, targetAxis = "Y1", label = "" }]
      }
    }],
    [{
      title = "Failed, lost, and parked deliveries"
      logsPanel = {
        filter        = "${local.deliveries} AND jsonPayload.outcome=(\"failed\" OR \"lost\" OR \"parked\")"
        resourceNames = ["projects/${var.project}"]
      }
    }],
  )
}

resource "google_monitoring_dashboard" "relay" {
  project = var.project
  dashboard_json = jsonencode({
    displayName = "Dataset Relay (${var.service_name})"
    mosaicLayout = {
      columns = 48
      tiles = [for place, widget in local.widgets : {
        xPos   = place % 2 * 24
        yPos   = floor(place / 2) * 16
        width  = 24
        height = 16
        widget = widget
      }]
    }
  })
  depends_on = [google_project_service.api]
}
