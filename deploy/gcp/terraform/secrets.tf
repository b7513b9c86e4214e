# The secrets, without versions and thus without values: Terraform would write the values into the state and into plans.
# The commands of the output secret_commands add the values.

locals {
  secrets = toset(concat(
    compact([var.apify_token_secret, var.data_world_token_secret]), var.relay_secrets, var.hook_secrets,
  ))
}

resource "google_secret_manager_secret" "relay" {
  for_each = local.secrets

  project   = var.project
  secret_id = each.value
  # The destruction of a secret also destroys its values, which may have no other copy.
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
