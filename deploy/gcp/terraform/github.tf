# The deployment of the code from GitHub, which exists only if github_repository is set. GitHub's workflow needs no
# stored key: Google exchanges GitHub's token, which is valid for a few minutes, for a token of a service account.
# https://cloud.google.com/iam/docs/workload-identity-federation-with-deployment-pipelines

locals {
  # The environment of the job in .github/workflows/deploy.yml. Its rules name the reviewers of a deployment. Create the
  # environment with these rules first: GitHub creates a missing environment at the first deployment, without any rules.
  github_environment = "production"

  with_github = var.github_repository != null
  github_email = one([
    for account in google_service_account.github : "${account.account_id}@${var.project}.iam.gserviceaccount.com"
  ])

  github_condition = (
    var.github_repository_id == null
    ? "assertion.repository == '${coalesce(var.github_repository, "-")}'"
    : "assertion.repository_id == '${coalesce(var.github_repository_id, "-")}'"
  )
  github_attribute = (
    var.github_repository_id == null
    ? "attribute.repository/${coalesce(var.github_repository, "-")}"
    : "attribute.repository_id/${coalesce(var.github_repository_id, "-")}"
  )
}

resource "google_service_account" "github" {
  count = local.with_github ? 1 : 0

  project      = var.project
  account_id   = var.github_account
  display_name = "Dataset Relay: deploys the code from GitHub"
  depends_on   = [google_project_service.api]
}

resource "google_iam_workload_identity_pool" "github" {
  count = local.with_github ? 1 : 0

  project                   = var.project
  workload_identity_pool_id = var.github_pool
  display_name              = "Dataset Relay: GitHub"
  depends_on                = [google_project_service.api]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  count = local.with_github ? 1 : 0

  project                            = var.project
  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  display_name                       = "GitHub Actions"

  # GitHub signs the tokens of all repositories with this issuer. Without the condition, Google would accept the token
  # of any repository. Any workflow on the branch can request a token. GitHub adds the claim `environment` only to the
  # token of a job that names an environment, after the reviewers of that environment have approved the job.
  # https://docs.github.com/en/actions/reference/security/oidc
  attribute_condition = join(" && ", [
    local.github_condition,
    "assertion.ref == '${var.github_ref}'",
    "assertion.environment == '${local.github_environment}'",
  ])
  attribute_mapping = {
    "google.subject"          = "assertion.sub"
    "attribute.repository"    = "assertion.repository"
    "attribute.repository_id" = "assertion.repository_id"
    "attribute.ref"           = "assertion.ref"
    "attribute.environment"   = "assertion.environment"
  }

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}
