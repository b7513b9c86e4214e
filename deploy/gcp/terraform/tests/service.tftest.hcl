# The service as the command in deploy/README.md would make it.

mock_provider "google" {
  override_during = plan
}

variables {
  project = "my-project"
}

run "by_default" {
  command = plan

  assert {
    condition = {
      for env in google_cloud_run_v2_service.relay.template[0].containers[0].env : env.name => env.value
      } == {
      GOOGLE_CLOUD_PROJECT = "my-project"
      THREADS              = "200"
      WORKERS              = "1"
      RELAY_SECRET         = "relay-secret"
      APIFY_TOKEN          = "apify-token"
      DATA_WORLD_TOKEN     = "data-world-token"
    }
    error_message = "The environment is that of deploy/README.md."
  }

  assert {
    condition = (
      google_cloud_run_v2_service.relay.template[0].containers[0].startup_probe[0].http_get[0].path == "/health"
    )
    error_message = "A revision that can't serve gets no traffic."
  }

  assert {
    condition = (
      google_cloud_run_v2_service.relay.template[0].containers[0].resources[0].startup_cpu_boost == true &&
      google_cloud_run_v2_service.relay.template[0].containers[0].resources[0].cpu_idle == true
    )
    error_message = "Starts fast, and costs nothing while nobody calls."
  }

  assert {
    condition = (
      google_cloud_run_v2_service.relay.deletion_protection == true &&
      alltrue([for secret in google_secret_manager_secret.relay : secret.deletion_protection == true])
    )
    error_message = "Nothing that can't be had again is destroyed by accident."
  }

  assert {
    condition     = alltrue([for api in google_project_service.api : api.disable_on_destroy == false])
    error_message = "APIs stay: others in the project may use them."
  }
}

run "threads_are_the_concurrency" {
  command = plan

  variables {
    concurrency = 80
  }

  assert {
    condition = (
      google_cloud_run_v2_service.relay.template[0].max_instance_request_concurrency == 80 &&
      one([
        for env in google_cloud_run_v2_service.relay.template[0].containers[0].env : env.value if env.name == "THREADS"
      ]) == "80"
    )
    error_message = "More requests than threads would queue unseen."
  }
}

run "one_provider_two_secrets_a_setting" {
  command = plan

  variables {
    data_world_token_secret = null
    relay_secrets           = ["old-secret", "new-secret"]
    settings                = { RELAY_DEADLINE_SECONDS = "20" }
    timeout_seconds         = 60
    secret_locations        = ["europe-west1", "europe-west4"]
  }

  assert {
    condition = {
      for env in google_cloud_run_v2_service.relay.template[0].containers[0].env : env.name => env.value
      } == {
      GOOGLE_CLOUD_PROJECT   = "my-project"
      THREADS                = "200"
      WORKERS                = "1"
      RELAY_SECRET           = "old-secret,new-secret"
      APIFY_TOKEN            = "apify-token"
      RELAY_DEADLINE_SECONDS = "20"
    }
    error_message = "A provider without a token is left out; secrets are listed; settings are added."
  }

  assert {
    condition     = keys(google_secret_manager_secret.relay) == ["apify-token", "new-secret", "old-secret"]
    error_message = "A secret for each reference, and no other."
  }

  assert {
    condition = alltrue([for secret in google_secret_manager_secret.relay :
      length(secret.replication[0].auto) == 0 &&
      toset(secret.replication[0].user_managed[0].replicas[*].location) == toset(["europe-west1", "europe-west4"])
    ])
    error_message = "Secrets are kept where they were said to be kept."
  }
}
