output "url" {
  description = "The function's address, which the recipes call https://YOUR-FUNCTION."
  value       = google_cloud_run_v2_service.relay.uri
}

output "runtime_account" {
  description = "The account that the function runs as."
  value       = local.runtime_email
}

output "build_account" {
  description = "The account that builds the code, as --build-service-account takes it."
  value       = "projects/${var.project}/serviceAccounts/${local.build_email}"
}

output "secret_commands" {
  description = "Commands, in bash, that ask for a secret's value without showing it, and add it as the newest version."
  # Without double quotes or backslashes: `terraform output` shows those with a backslash before them, and pasted like
  # that they would be a part of the secret. IFS and -f keep the value whole instead.
  value = {
    for name in local.secrets : name => join(" ", [
      "printf '${name}: ';",
      "(IFS=; set -f; read -rs VALUE; printf %s $VALUE) |",
      "gcloud secrets versions add '${name}' --project '${var.project}' --data-file=-",
    ])
  }
}

output "github" {
  description = "What GitHub's workflow needs; null without github_repository. None of it is a secret."
  value = !local.with_github ? null : {
    workload_identity_provider = google_iam_workload_identity_pool_provider.github[0].name
    service_account            = local.github_email
  }
}
