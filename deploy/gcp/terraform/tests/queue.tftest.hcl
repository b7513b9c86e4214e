# The queue: its topics and subscriptions, its permissions, and the settings of the function.

mock_provider "google" {
  override_during = plan

  mock_data "google_project" {
    defaults = {
      number = "123456789012"
    }
  }
}

variables {
  project             = "my-project"
  metric_wait_seconds = 0
}

run "without_queue" {
  command = plan

  assert {
    condition = (
      length(google_pubsub_topic.queue) + length(google_pubsub_subscription.deliveries) +
      length(google_pubsub_subscription.dead_letters) + length(google_pubsub_topic_iam_member.runtime) +
      length(google_service_account.push) + length(google_cloud_run_v2_service_iam_member.push) +
      length(google_monitoring_alert_policy.waiting_updates) + length(google_monitoring_alert_policy.lost_updates) == 0
    )
    error_message = "Without queue, no resource of the queue may exist."
  }

  assert {
    condition     = !contains(keys(google_project_service.api), "pubsub.googleapis.com")
    error_message = "Without queue, Terraform must not enable the API of Pub/Sub."
  }

  assert {
    condition = length([
      for env in google_cloud_run_v2_service.relay.template[0].containers[0].env : env.name
      if can(regex("TOPIC|PUSH|REGION|DELIVERY", env.name))
    ]) == 0
    error_message = "Without queue, the function must have no setting of the queue."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay.template[0].timeout == "30s"
    error_message = "Without queue, the timeout must be timeout_seconds."
  }
}

run "topics_and_subscriptions" {
  # Terraform reads the number of the project only during the apply that enables the APIs.
  command = apply

  variables {
    queue = true
  }

  assert {
    condition = { for key, topic in google_pubsub_topic.queue : key => topic.name } == {
      apify        = "dataset-relay-apify"
      data-world   = "dataset-relay-data-world"
      dead-letters = "dataset-relay-dead-letters"
    }
    error_message = "Each provider and the dead letters must have a topic, with the same name as from deploy.sh."
  }

  assert {
    condition = {
      for subscription in google_pubsub_subscription.deliveries : subscription.name => subscription.topic
      } == {
      dataset-relay-apify      = "dataset-relay-apify"
      dataset-relay-data-world = "dataset-relay-data-world"
    }
    error_message = "Each provider must have a subscription with the name of its topic."
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.deliveries :
      subscription.push_config[0].push_endpoint
      == "https://dataset-relay-123456789012.europe-west1.run.app/deliveries" &&
      subscription.push_config[0].oidc_token[0].audience == "dataset-relay" &&
      subscription.push_config[0].oidc_token[0].service_account_email
      == "dataset-relay-push@my-project.iam.gserviceaccount.com"
    ])
    error_message = "Pub/Sub must push to the deterministic URL, with an ID token of the service account."
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.deliveries : subscription.enable_message_ordering == true
    ])
    error_message = "The subscriptions of the providers must preserve the order of the updates."
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.deliveries : length(subscription.dead_letter_policy) == 0
    ])
    error_message = "The subscriptions must have no dead-letter policy: only the function may remove an update."
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.deliveries :
      subscription.ack_deadline_seconds == 120 && subscription.message_retention_duration == "604800s" &&
      subscription.retry_policy[0].minimum_backoff == "10s" && subscription.retry_policy[0].maximum_backoff == "600s"
    ])
    error_message = "The subscriptions of the providers must have the time limits of deploy.sh."
  }

  assert {
    condition = (
      google_pubsub_subscription.dead_letters[0].name == "dataset-relay-dead-letters" &&
      google_pubsub_subscription.dead_letters[0].topic == "dataset-relay-dead-letters" &&
      google_pubsub_subscription.dead_letters[0].message_retention_duration == "2678400s" &&
      length(google_pubsub_subscription.dead_letters[0].push_config) == 0
    )
    error_message = "The dead letters must wait for 31 days in a pull subscription."
  }

  assert {
    condition = alltrue([
      for subscription in concat(
        values(google_pubsub_subscription.deliveries), google_pubsub_subscription.dead_letters
      ) : subscription.expiration_policy[0].ttl == ""
    ])
    error_message = "No subscription may expire."
  }
}

run "queue_grants" {
  command = plan

  variables {
    queue = true
  }

  assert {
    condition = {
      for grant in google_pubsub_topic_iam_member.runtime : grant.topic => [grant.role, grant.member]
      } == {
      for name in ["apify", "data-world", "dead-letters"] : "dataset-relay-${name}" => [
        "roles/pubsub.publisher", "serviceAccount:dataset-relay@my-project.iam.gserviceaccount.com"
      ]
    }
    error_message = "Only the service account of the function may publish, to the three topics of the queue."
  }

  assert {
    condition = (
      google_cloud_run_v2_service_iam_member.push[0].role == "roles/run.invoker" &&
      google_cloud_run_v2_service_iam_member.push[0].name == "dataset-relay" &&
      google_cloud_run_v2_service_iam_member.push[0].member
      == "serviceAccount:dataset-relay-push@my-project.iam.gserviceaccount.com"
    )
    error_message = "The service account of the pushes may call the service."
  }

  assert {
    condition = alltrue([
      for grant in google_secret_manager_secret_iam_member.runtime : !strcontains(grant.member, "dataset-relay-push")
    ])
    error_message = "The service account of the pushes must not read a secret."
  }
}

run "queue_settings" {
  command = plan

  variables {
    queue = true
  }

  assert {
    condition = {
      for env in google_cloud_run_v2_service.relay.template[0].containers[0].env : env.name => env.value
      } == {
      GOOGLE_CLOUD_PROJECT    = "my-project"
      THREADS                 = "200"
      WORKERS                 = "1"
      RELAY_SECRET            = "relay-secret"
      APIFY_TOKEN             = "apify-token"
      APIFY_TOPIC             = "projects/my-project/topics/dataset-relay-apify"
      DATA_WORLD_TOKEN        = "data-world-token"
      DATA_WORLD_TOPIC        = "projects/my-project/topics/dataset-relay-data-world"
      RELAY_DEAD_LETTER_TOPIC = "projects/my-project/topics/dataset-relay-dead-letters"
      RELAY_PUSH_AUDIENCE     = "dataset-relay"
      RELAY_PUSH_ACCOUNT      = "dataset-relay-push@my-project.iam.gserviceaccount.com"
      RELAY_REGION            = "europe-west1"
    }
    error_message = "The environment must have the settings that deploy.sh --queue sets."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay.template[0].timeout == "120s"
    error_message = "Cloud Run must not end a request before the acknowledgment deadline."
  }

  assert {
    condition     = contains(keys(google_project_service.api), "pubsub.googleapis.com")
    error_message = "Terraform must enable the API of Pub/Sub."
  }
}

run "one_provider_and_other_deadlines" {
  command = plan

  variables {
    queue                     = true
    service_name              = "relay-test"
    region                    = "us-east1"
    push_account              = "relay-test-push"
    data_world_token_secret   = null
    delivery_deadline_seconds = 199.5
    settings                  = { RELAY_PARK_AFTER_SECONDS = "3600" }
  }

  assert {
    condition = {
      for env in google_cloud_run_v2_service.relay.template[0].containers[0].env : env.name => env.value
      } == {
      GOOGLE_CLOUD_PROJECT            = "my-project"
      THREADS                         = "200"
      WORKERS                         = "1"
      RELAY_SECRET                    = "relay-secret"
      APIFY_TOKEN                     = "apify-token"
      APIFY_TOPIC                     = "projects/my-project/topics/relay-test-apify"
      RELAY_DEAD_LETTER_TOPIC         = "projects/my-project/topics/relay-test-dead-letters"
      RELAY_PUSH_AUDIENCE             = "relay-test"
      RELAY_PUSH_ACCOUNT              = "relay-test-push@my-project.iam.gserviceaccount.com"
      RELAY_REGION                    = "us-east1"
      RELAY_DELIVERY_DEADLINE_SECONDS = "199.5"
      RELAY_PARK_AFTER_SECONDS        = "3600"
    }
    error_message = "A provider without a token must have no topic, and the function must have the other deadline."
  }

  assert {
    condition     = keys(google_pubsub_subscription.deliveries) == ["apify"]
    error_message = "A provider without a token must have no subscription."
  }

  assert {
    condition = (
      google_pubsub_subscription.deliveries["apify"].ack_deadline_seconds == 220 &&
      google_cloud_run_v2_service.relay.template[0].timeout == "220s"
    )
    error_message = "The acknowledgment deadline and the timeout must follow from the deadline of a delivery."
  }
}

run "timeout_above_the_acknowledgment_deadline" {
  command = plan

  variables {
    queue           = true
    timeout_seconds = 300
  }

  assert {
    condition     = google_cloud_run_v2_service.relay.template[0].timeout == "300s"
    error_message = "The queue must not shorten the timeout."
  }
}

run "queue_alerts_and_chart" {
  command = plan

  variables {
    queue                 = true
    waiting_seconds       = 1800
    alert_emails          = ["data-team@example.com"]
    notification_channels = ["projects/my-project/notificationChannels/1"]
    runbook               = "https://example.com/RUNBOOK.md"
  }

  assert {
    condition = alltrue([
      for section, alert in {
        waiting-updates = google_monitoring_alert_policy.waiting_updates[0]
        lost-updates    = google_monitoring_alert_policy.lost_updates[0]
      } :
      strcontains(alert.documentation[0].content, "https://example.com/RUNBOOK.md#${section}\n") &&
      length(alert.notification_channels) == 2 && alert.alert_strategy[0].auto_close == "3600s"
    ])
    error_message = "Each alert must link to the runbook, notify every channel, and close automatically."
  }

  assert {
    condition = (
      google_monitoring_alert_policy.waiting_updates[0].conditions[0].condition_threshold[0].threshold_value == 1800 &&
      strcontains(
        google_monitoring_alert_policy.waiting_updates[0].conditions[0].condition_threshold[0].filter,
        "resource.labels.subscription_id=one_of(\"dataset-relay-apify\", \"dataset-relay-data-world\")"
      )
    )
    error_message = "The alert must compare the oldest update of each subscription with waiting_seconds."
  }

  assert {
    condition = (
      google_monitoring_alert_policy.lost_updates[0].severity == "ERROR" &&
      length(google_monitoring_alert_policy.lost_updates[0].alert_strategy[0].notification_rate_limit) == 1 &&
      endswith(
        google_monitoring_alert_policy.lost_updates[0].conditions[0].condition_matched_log[0].filter,
        "jsonPayload.outcome=(\"parked\" OR \"lost\")"
      )
    )
    error_message = "The alert must match each parked or lost update, with a rate limit for notifications."
  }

  assert {
    condition = length([
      for tile in jsondecode(google_monitoring_dashboard.relay.dashboard_json).mosaicLayout.tiles : tile
      if tile.xPos + tile.width <= 48
    ]) == 13
    error_message = "The dashboard must have thirteen tiles, all within its width."
  }

  assert {
    condition = strcontains(
      google_monitoring_dashboard.relay.dashboard_json, "pubsub.googleapis.com/subscription/oldest_unacked_message_age"
    )
    error_message = "The dashboard must show the age of the oldest update in the queue."
  }
}
