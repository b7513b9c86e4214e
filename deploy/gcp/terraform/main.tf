# The service and all around it are Terraform's; the code is brought by `gcloud run deploy --source`, from a machine or
# from GitHub. The provider's build_config sets fields and builds nothing:
# https://github.com/hashicorp/terraform-provider-google/issues/22263
# https://github.com/hashicorp/terraform-provider-google/issues/23057

locals {
  apis = toset(concat(
    [
      "artifactregistry.googleapis.com",     # where a build puts the image
      "cloudbuild.googleapis.com",           # builds the code
      "cloudresourcemanager.googleapis.com", # the project's grants
      "iam.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "run.googleapis.com",
      "secretmanager.googleapis.com",
      "storage.googleapis.com", # where the code is uploaded to
    ],
    # Exchange GitHub's token for one of the account's.
    local.with_github ? ["iamcredentials.googleapis.com", "sts.googleapis.com"] : [],
  ))

  # References say where secrets are, never what they are. A provider without one is left out.
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
    {
      GOOGLE_CLOUD_PROJECT = var.project
      THREADS              = tostring(var.concurrency)
      # One worker can't use a second CPU: two threads of it wait for each other. Each worker has all the threads, since
      # nothing tells how many of the requests it will be given.
      WORKERS = var.cpu
    },
  )
}

resource "google_project_service" "api" {
  for_each = local.apis

  project = var.project
  service = each.value
  # Others in the project may use it.
  disable_on_destroy = false
}

resource "google_cloud_run_v2_service" "relay" {
  project             = var.project
  name                = var.service_name
  location            = var.region
  description         = "Updates dataset records on Apify and data.world when a pipeline finishes."
  ingress             = "INGRESS_TRAFFIC_ALL" # senders are anywhere
  deletion_protection = var.deletion_protection

  template {
    service_account                  = local.runtime_email
    max_instance_request_concurrency = var.concurrency
    timeout                          = "${var.timeout_seconds}s"

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
        # A CPU only while a request is served: the function does nothing in between. The provider takes false where
        # resources are set and this isn't.
        cpu_idle = true
      }

      dynamic "env" {
        for_each = local.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      # A revision whose settings or relay.yaml are wrong never gets traffic, whichever way its server is started: Cloud
      # Run's own probe is content with a port that is open. Placeholder and function both answer this path.
      # https://cloud.google.com/run/docs/configuring/healthchecks
      startup_probe {
        period_seconds    = 1 # what a cold start waits for at most, beyond its own time
        timeout_seconds   = 1
        failure_threshold = 60
        http_get {
          path = "/health"
        }
      }
    }
  }

  lifecycle {
    # What code deployments and rollbacks set: the next apply must not undo it.
    ignore_changes = [
      template[0].containers[0].image,          # the function, as built
      template[0].containers[0].base_image_uri, # --base-image, which Google keeps patched
      template[0].containers[0].name,           # gcloud names the container
      build_config,                             # where the source is, and the build account
      client,                                   # gcloud says that it was there
      client_version,
      template[0].annotations, # likewise, in the revision
      template[0].labels,
      template[0].revision, # gcloud may name the revision; the old name would be refused as taken
      traffic,              # a rollback by traffic stays one, until gcloud run services update-traffic --to-latest
    ]
  }

  # A revision that starts before it may read its secrets would answer with faults for some minutes.
  depends_on = [google_project_service.api, google_secret_manager_secret_iam_member.runtime]
}

# Senders have no Google account: the function itself checks who calls. This is all that is public.
# https://cloud.google.com/run/docs/authenticating/public
resource "google_cloud_run_v2_service_iam_member" "public" {
  project  = var.project
  location = google_cloud_run_v2_service.relay.location
  name     = google_cloud_run_v2_service.relay.name
  role     = "roles/run.invoker"
  member   = "allUsers"
}
