# The queue, which exists only with queue = true: the topics, and their subscriptions. The function publishes each
# update to the topic of its provider. A push subscription sends the update to POST /deliveries.
# https://cloud.google.com/pubsub/docs/push

locals {
  # A provider without a token has no updates, and therefore no topic.
  queue_providers = var.queue ? compact([
    var.apify_token_secret == null ? "" : "apify",
    var.data_world_token_secret == null ? "" : "data-world",
  ]) : []
  # The short names of the topics, and their IDs. deploy.sh uses the same IDs.
  topics = {
    for name in concat(local.queue_providers, var.queue ? ["dead-letters"] : []) : name => "${var.service_name}-${name}"
  }

  # In seconds. After the deadline of a delivery, the function needs some time to publish a dead letter. If Pub/Sub sent
  # the message again before the end of a delivery, two deliveries of the same update would run at the same time.
  ack_deadline_seconds = ceil(var.delivery_deadline_seconds) + 20

  # The settings of the function for the queue.
  queue_settings = var.queue ? merge(
    {
      for name in local.queue_providers :
      "${upper(replace(name, "-", "_"))}_TOPIC" => "projects/${var.project}/topics/${local.topics[name]}"
    },
    {
      RELAY_DEAD_LETTER_TOPIC = "projects/${var.project}/topics/${local.topics["dead-letters"]}"
      RELAY_PUSH_AUDIENCE     = var.service_name
      RELAY_PUSH_ACCOUNT      = local.push_email
      # Pub/Sub preserves the order only of messages that it receives in the same region.
      RELAY_REGION = var.region
    },
    var.delivery_deadline_seconds == 100 ? {} : {
      RELAY_DELIVERY_DEADLINE_SECONDS = tostring(var.delivery_deadline_seconds)
    },
  ) : {}

  # The deterministic URL of the service. With the URL in the attributes of the service, the subscriptions would depend
  # on the service. However, the service depends on the subscriptions: see main.tf.
  # https://cloud.google.com/run/docs/triggering/https-request#deterministic
  push_endpoint = join("", [
    for project in data.google_project.queue :
    "https://${var.service_name}-${project.number}.${var.region}.run.app/deliveries"
  ])
}

# The number of the project, which is a part of the URL of the service.
data "google_project" "queue" {
  count = var.queue ? 1 : 0

  project_id = var.project
  # The data source needs the API cloudresourcemanager.googleapis.com.
  depends_on = [google_project_service.api]
}

resource "google_pubsub_topic" "queue" {
  for_each = local.topics

  project    = var.project
  name       = each.value
  depends_on = [google_project_service.api]
}

# One subscription for each provider, so that the failures of a provider don't delay the updates of the other provider.
resource "google_pubsub_subscription" "deliveries" {
  for_each = toset(local.queue_providers)

  project = var.project
  name    = local.topics[each.value]
  topic   = google_pubsub_topic.queue[each.value].name

  push_config {
    push_endpoint = local.push_endpoint
    # The function verifies this ID token, because the service is public.
    # https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
    oidc_token {
      service_account_email = local.push_email
      audience              = var.service_name
    }
  }

  # The function uses an ordering key for each dataset.
  enable_message_ordering = true
  ack_deadline_seconds    = local.ack_deadline_seconds
  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  # No dead_letter_policy: Pub/Sub would remove an update after at most 100 attempts. The function itself parks an
  # update after RELAY_PARK_AFTER_SECONDS, and publishes the update to the topic for dead letters.
  message_retention_duration = "604800s"
  # By default, Pub/Sub deletes a subscription after 31 days without activity.
  expiration_policy {
    ttl = ""
  }
}

# The lost and parked updates wait in this subscription for `deploy/gcp/replay`.
resource "google_pubsub_subscription" "dead_letters" {
  count = var.queue ? 1 : 0

  project                    = var.project
  name                       = local.topics["dead-letters"]
  topic                      = google_pubsub_topic.queue["dead-letters"].name
  message_retention_duration = "2678400s"
  expiration_policy {
    ttl = ""
  }
}
