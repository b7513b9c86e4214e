output "url" {
  description = "The address of the function. The recipes call this address https://YOUR-FUNCTION."
  value       = google_cloud_run_v2_service.relay.uri
}

output "runtime_account" {
  description = "The email address of the service account of the function."
  value       = local.runtime_email
}

output "build_account" {
  description = "The service account of the build, in the format of --build-service-account."
  value       = "projects/${var.project}/serviceAccounts/${local.build_email}"
}

output "secret_commands" {
  description = "Commands for bash. Each command asks for the value of a secret, and adds the value as a version."
  # The commands contain neither double quotes nor backslashes, because `terraform output` escapes both. In a pasted
  # command, the escapes would become a part of the secret. In place of quotes, IFS and -f prevent changes to the value.
  value = {
    for name in local.secrets : name => join(" ", [
      "printf '${name}: ';",
      "(IFS=; set -f; read -rs VALUE; printf %s $VALUE) |",
      "gcloud secrets versions add '${name}' --project '${var.project}' --data-file=-",
    ])
  }
}

output "github" {
  description = "The values for GitHub's workflow, none of which is a secret. Null without github_repository."
  value = !local.with_github ? null : {
    workload_identity_provider = google_iam_workload_identity_pool_provider.github[0].name
    service_account            = local.github_email
  }
}
