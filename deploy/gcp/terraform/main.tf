# Terraform manages the service and its surroundings. `gcloud run deploy --source` deploys the code, from a local
# machine or from GitHub. Terraform can't deploy the code: the build_config of the Terraform provider sets fields, but
# starts no build.
# https://github.com/hashicorp/terraform-provider-google/issues/22263
# https://github.com/hashicorp/terraform-provider-google/issues/23057

locals {
  apis = toset(concat(
    [
      "artifactregistry.googleapis.com",     # stores the image of a build
      "cloudbuild.googleapis.com",           # builds the code
      "cloudresourcemanager.googleapis.com", # grants on the project
      "iam.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "run.googleapis.com",
      "secretmanager.googleapis.com",
      "storage.googleapis.com", # stores the uploaded code
    ],
    # Exchange GitHub's token for a token of the service account.
    local.with_github ? ["iamcredentials.googleapis.com", "sts.googleapis.com"] : [],
    var.queue ? ["pubsub.googleapis.com"] : [],
  ))

  # Secret references, which never contain the value of a secret. Leave out a provider without a reference.
  references = {
    for name, secrets in {
      APIFY_TOKEN      = compact([var.apify_token_secret])
      DATA_WORLD_TOKEN = compact([var.data_world_token_secret])
      RELAY_SECRET     = var.relay_secrets
    } : name => join(",", [for secret in secrets : google_secret_manager_secret.relay[secret].secret_id])
    if length(secrets) > 0
  }

  environment = merge(
    var.settings,
    local.references,
    local.queue_settings,
    {
      GOOGLE_CLOUD_PROJECT = var.project
      THREADS              = tostring(var.concurrency)
      # A worker can't use a second CPU, because of Python's global interpreter lock. Each worker has all the threads,
      # because the number of requests that a worker receives is unknown.
      WORKERS = var.cpu
    },
  )
}

resource "google_project_service" "api" {
  for_each = local.apis

  project = var.project
  service = each.value
  # Other workloads of the project may use the API.
  disable_on_destroy = false
}

resource "google_cloud_run_v2_service" "relay" {
  project             = var.project
  name                = var.service_name
  location            = var.region
  description         = "Updates dataset records on Apify and data.world when a pipeline finishes."
  ingress             = "INGRESS_TRAFFIC_ALL" # Senders can be anywhere on the internet.
  deletion_protection = var.deletion_protection

  template {
    service_account                  = local.runtime_email
    max_instance_request_concurrency = var.concurrency
    # A delivery from the queue can take until the acknowledgment deadline of its subscription.
    timeout = "${var.queue ? max(var.timeout_seconds, local.ack_deadline_seconds) : var.timeout_seconds}s"

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = var.max_instances
    }

    containers {
      image = var.image

      resources {
        limits = {
          cpu    = var.cpu
          memory = var.memory
        }
        startup_cpu_boost = true
        # Allocate the CPU only during requests: the function does nothing between requests. Set the value, because the
        # Terraform provider uses false for a container that sets resources without cpu_idle.
        cpu_idle = true
      }

      dynamic "env" {
        for_each = local.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      # A revision with a mistake in its settings or in relay.yaml never receives traffic. Cloud Run's default probe
      # checks only that the port is open. Both the placeholder and the function respond to this path.
      # https://cloud.google.com/run/docs/configuring/healthchecks
      startup_probe {
        period_seconds    = 1 # the longest extra delay of a cold start
        timeout_seconds   = 1
        failure_threshold = 60
        http_get {
          path = "/health"
        }
      }
    }
  }

  lifecycle {
    # Deployments of code and rollbacks set these attributes, which the next apply must preserve.
    ignore_changes = [
      template[0].containers[0].image,          # the built image of the function
      template[0].containers[0].base_image_uri, # --base-image, which Google updates
      template[0].containers[0].name,           # gcloud sets the name of the container
      build_config,                             # the location of the source, and the service account of the build
      client,                                   # gcloud sets its own name and version
      client_version,
      template[0].annotations, # gcloud also sets both in the revision
      template[0].labels,
      template[0].revision, # gcloud may set the name of the revision, and Cloud Run rejects a name that exists
      traffic,              # a rollback remains until gcloud run services update-traffic --to-latest
    ]
  }

  # Without the permissions to read its secrets and to publish, a new revision would return errors for some minutes. A
  # topic without a subscription drops its messages, so the subscriptions must exist before the function publishes.
  depends_on = [
    google_project_service.api,
    google_secret_manager_secret_iam_member.runtime,
    google_pubsub_topic_iam_member.runtime,
    google_pubsub_subscription.deliveries,
    google_pubsub_subscription.dead_letters,
  ]
}

# Senders have no Google credentials. The function itself authenticates its callers. No other resource is public.
# https://cloud.google.com/run/docs/authenticating/public
resource "google_cloud_run_v2_service_iam_member" "public" {
  project  = var.project
  location = google_cloud_run_v2_service.relay.location
  name     = google_cloud_run_v2_service.relay.name
  role     = "roles/run.invoker"
  member   = "allUsers"
}
