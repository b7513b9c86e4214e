# The service and its secrets. By default, the service must equal the service that deploy.sh creates, except for
# WORKERS, which deploy.sh sets only with --set.

mock_provider "google" {
  override_during = plan
}

variables {
  project = "my-project"
}

run "default_settings" {
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
    error_message = "The environment must have the default settings."
  }

  assert {
    condition = (
      google_cloud_run_v2_service.relay.template[0].containers[0].startup_probe[0].http_get[0].path == "/health"
    )
    error_message = "The startup probe must call /health, so that a revision with a mistake receives no traffic."
  }

  assert {
    condition = (
      google_cloud_run_v2_service.relay.template[0].containers[0].resources[0].startup_cpu_boost == true &&
      google_cloud_run_v2_service.relay.template[0].containers[0].resources[0].cpu_idle == true
    )
    error_message = "The container must have a CPU boost at startup, and a CPU only during requests."
  }

  assert {
    condition = (
      google_cloud_run_v2_service.relay.deletion_protection == true &&
      alltrue([for secret in google_secret_manager_secret.relay : secret.deletion_protection == true])
    )
    error_message = "The service and the secrets must have protection from destruction."
  }

  assert {
    condition     = alltrue([for api in google_project_service.api : api.disable_on_destroy == false])
    error_message = "Terraform must not disable an API, because other workloads of the project may use it."
  }
}

run "threads_equal_concurrency" {
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
    error_message = "The number of threads must equal the concurrency, so that no request waits for a thread."
  }
}

run "one_provider_two_secrets_and_a_setting" {
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
    error_message = "The environment must have one token, both secrets, and the setting."
  }

  assert {
    condition     = keys(google_secret_manager_secret.relay) == ["apify-token", "new-secret", "old-secret"]
    error_message = "Each reference must have a secret, and each secret a reference."
  }

  assert {
    condition = alltrue([for secret in google_secret_manager_secret.relay :
      length(secret.replication[0].auto) == 0 &&
      toset(secret.replication[0].user_managed[0].replicas[*].location) == toset(["europe-west1", "europe-west4"])
    ])
    error_message = "The secrets must be in the regions of secret_locations."
  }
}
