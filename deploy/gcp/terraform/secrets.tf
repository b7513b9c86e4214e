# The places for the secrets. No version, and so no value, is made here: a value would be in the state and in plans. The
# outputs have the commands that add them.

locals {
  secrets = toset(concat(
    compact([var.apify_token_secret, var.data_world_token_secret]), var.relay_secrets, var.hook_secrets,
  ))
}

resource "google_secret_manager_secret" "relay" {
  for_each = local.secrets

  project   = var.project
  secret_id = each.value
  # Destroying a secret destroys its values, which nobody else has.
  deletion_protection = var.deletion_protection

  replication {
    dynamic "auto" {
      for_each = length(var.secret_locations) == 0 ? [1] : []
      content {}
    }
    dynamic "user_managed" {
      for_each = length(var.secret_locations) == 0 ? [] : [1]
      content {
        dynamic "replicas" {
          for_each = toset(var.secret_locations)
          content {
            location = replicas.value
          }
        }
      }
    }
  }

  depends_on = [google_project_service.api]
}
