# The validations. Each run fails if a variable accepts its bad value. A run tests several variables, which saves time.
# However, a validation that refers to another variable is in a different run than a bad value of that variable.

mock_provider "google" {}

variables {
  project = "my-project"
}

run "independent_validations_1" {
  command = plan
  variables {
    project                 = "My_Project"
    region                  = "europe"
    service_name            = "Relay"
    image                   = "hello world"
    runtime_account         = "relay"
    apify_token_secret      = "projects/p/secrets/s"
    data_world_token_secret = "data world"
    relay_secrets           = ["relay-secret", "a/b"]
    hook_secrets            = [""]
    secret_locations        = ["Europe"]
    concurrency             = 0
    timeout_seconds         = 3601
    cpu                     = "0.5"
    memory                  = "512M"
    max_instances           = 101
    github_repository       = "https://github.com/acme/relay"
    github_ref              = "main"
    github_pool             = "gcp-pool"
    alert_emails            = ["data-team"]
    notification_channels   = ["123"]
    runbook                 = "deploy/gcp/RUNBOOK.md#failures"
    failure_count           = -1
    failure_share           = 1
    latency_p95_ms          = 60001
    busy_count              = 0.5
    waiting_seconds         = 59
    metric_wait_seconds     = 601

    delivery_deadline_seconds = 581
  }
  expect_failures = [
    var.project,
    var.region,
    var.service_name,
    var.image,
    var.runtime_account,
    var.apify_token_secret,
    var.data_world_token_secret,
    var.relay_secrets,
    var.hook_secrets,
    var.secret_locations,
    var.concurrency,
    var.timeout_seconds,
    var.cpu,
    var.memory,
    var.max_instances,
    var.github_repository,
    var.github_ref,
    var.github_pool,
    var.alert_emails,
    var.notification_channels,
    var.runbook,
    var.failure_count,
    var.failure_share,
    var.latency_p95_ms,
    var.busy_count,
    var.waiting_seconds,
    var.metric_wait_seconds,
    var.delivery_deadline_seconds,
  ]
}

run "independent_validations_2" {
  command = plan
  variables {
    project                 = "example.com:project"
    apify_token_secret      = "apify_api_MadeUpMadeUpMadeUpMadeUp"
    data_world_token_secret = "eyJhbGciOiJIUzUxMiJ9"
    relay_secrets           = ["whsec_bWFkZSB1cA"]
    hook_secrets            = ["0123456789abcdef0123456789abcdef"]
    concurrency             = 1001
    memory                  = "128Mi"
    github_ref              = "refs/heads/main' || true || '"
  }
  expect_failures = [
    var.project,
    var.apify_token_secret,
    var.data_world_token_secret,
    var.relay_secrets,
    var.hook_secrets,
    var.concurrency,
    var.memory,
    var.github_ref,
  ]
}

run "independent_validations_3" {
  command = plan
  variables {
    delivery_deadline_seconds = 0

    concurrency = 1.5
    memory      = "33Gi"
  }
  expect_failures = [
    var.concurrency,
    var.memory,
    var.delivery_deadline_seconds,
  ]
}

run "validations_with_other_variables_1" {
  command = plan
  variables {
    github_repository    = "acme/relay"
    build_account        = "Build-Account"
    settings             = { THREADS = "8" }
    min_instances        = -1
    github_repository_id = "acme"
  }
  expect_failures = [
    var.build_account,
    var.settings,
    var.min_instances,
    var.github_repository_id,
  ]
}

run "validations_with_other_variables_2" {
  command = plan
  variables {
    build_account = "dataset-relay"
    settings      = { RELAY_SECRET = "relay-secret" }
    min_instances = 11
  }
  expect_failures = [
    var.build_account,
    var.settings,
    var.min_instances,
  ]
}

run "validations_with_other_variables_3" {
  command = plan
  variables {
    push_account = "push"
    settings     = { RELAY_ALLOW_UNAUTHENTICATED = "true" }
  }
  expect_failures = [
    var.push_account,
    var.settings,
  ]
}

run "validations_with_other_variables_4" {
  command = plan
  variables {
    settings = { RELAY_DEADLINE = "8" }
  }
  expect_failures = [
    var.settings,
  ]
}

run "validations_with_other_variables_5" {
  command = plan
  variables {
    github_account = "x"
    settings       = { RELAY_CONFIG = "apify_api_MadeUpMadeUpMadeUpMadeUp" }
  }
  expect_failures = [
    var.github_account,
    var.settings,
  ]
}

run "validations_with_other_variables_6" {
  command = plan
  variables {
    github_account = "dataset-relay-build"
    settings       = { LOG_LEVEL = "WARNING" }
  }
  expect_failures = [
    var.github_account,
    var.settings,
  ]
}

run "validations_with_other_variables_7" {
  command = plan
  variables {
    settings = { RELAY_DEADLINE_SECONDS = "11" }
  }
  expect_failures = [
    var.settings,
  ]
}

run "validations_with_other_variables_8" {
  command = plan
  variables {
    settings = { RELAY_DEADLINE_SECONDS = "soon" }
  }
  expect_failures = [
    var.settings,
  ]
}

run "validations_with_other_variables_9" {
  command = plan
  variables {
    settings = { RELAY_PROVIDER_CONCURRENCY = "200" }
  }
  expect_failures = [
    var.settings,
  ]
}

run "push_account_with_other_grants" {
  command = plan
  variables {
    push_account = "dataset-relay-deploy"
  }
  expect_failures = [var.push_account]
}

run "unreadable_parking_time" {
  command = plan
  variables {
    settings = { RELAY_PARK_AFTER_SECONDS = "never" }
  }
  expect_failures = [var.settings]
}

run "parking_time_above_the_retention" {
  command = plan
  variables {
    settings = { RELAY_PARK_AFTER_SECONDS = "604801" }
  }
  expect_failures = [var.settings]
}

run "body_above_the_limit_of_the_queue" {
  command = plan
  variables {
    queue    = true
    settings = { RELAY_MAX_BODY_BYTES = "7000001" }
  }
  expect_failures = [var.settings]
}

run "queue_setting_with_a_variable_of_its_own" {
  command = plan
  variables {
    queue    = true
    settings = { RELAY_DELIVERY_DEADLINE_SECONDS = "200" }
  }
  expect_failures = [var.settings]
}

run "queue_without_a_provider" {
  command = plan
  variables {
    queue                   = true
    apify_token_secret      = null
    data_world_token_secret = null
  }
  expect_failures = [var.queue]
}

run "queue_with_reserved_topic_names" {
  command = plan
  variables {
    queue        = true
    service_name = "google-relay"
  }
  expect_failures = [var.queue]
}

run "numeric_id_without_a_repository" {
  command = plan
  variables {
    github_repository_id = "123"
  }
  expect_failures = [var.github_repository_id]
}

run "timeout_below_three_deadlines" {
  command = plan
  variables {
    timeout_seconds = 26
  }
  expect_failures = [var.settings]
}
