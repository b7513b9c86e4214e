# The accounts, and every grant but the public one (main.tf). Only *_iam_member: a *_binding or *_policy would take away
# what others were given.

locals {
  # Made of what is known before the account is, so that a plan shows who gets what; the reference keeps the order.
  runtime_email = "${google_service_account.runtime.account_id}@${var.project}.iam.gserviceaccount.com"
  build_email   = "${google_service_account.build.account_id}@${var.project}.iam.gserviceaccount.com"
}

# Neither is the default compute account, which every other thing in the project may run as, and which often has Editor.
# https://cloud.google.com/iam/docs/service-account-types#default
resource "google_service_account" "runtime" {
  project      = var.project
  account_id   = var.runtime_account
  display_name = "Dataset Relay: runs the function"
  depends_on   = [google_project_service.api]
}

resource "google_service_account" "build" {
  project      = var.project
  account_id   = var.build_account
  display_name = "Dataset Relay: builds the code"
  depends_on   = [google_project_service.api]
}

# The function reads its secrets, each by a grant of its own, and may do nothing else.
# https://cloud.google.com/secret-manager/docs/access-control
resource "google_secret_manager_secret_iam_member" "runtime" {
  for_each = google_secret_manager_secret.relay

  project   = var.project
  secret_id = each.value.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${local.runtime_email}"
}

# Reads the uploaded source, writes the image and the build's log.
# https://cloud.google.com/run/docs/configuring/services/build-service-account
resource "google_project_iam_member" "build" {
  project = var.project
  role    = "roles/run.builder"
  member  = "serviceAccount:${local.build_email}"
}

# What a deployment from source needs, and no more: neither who may call nor any other grant can be changed with it.
# https://cloud.google.com/run/docs/configuring/services/build-service-account
resource "google_project_iam_member" "github" {
  for_each = local.with_github ? toset(["roles/run.sourceDeveloper", "roles/serviceusage.serviceUsageConsumer"]) : []

  project = var.project
  role    = each.value
  member  = "serviceAccount:${local.github_email}"
}

# It may have things run as these two accounts, not as any other of the project.
resource "google_service_account_iam_member" "github" {
  for_each = local.with_github ? { runtime = local.runtime_email, build = local.build_email } : {}

  service_account_id = "projects/${var.project}/serviceAccounts/${each.value}"
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${local.github_email}"
}

# One repository's workflows may act as GitHub's account; github.tf says from which ref.
resource "google_service_account_iam_member" "github_workflow" {
  count = local.with_github ? 1 : 0

  service_account_id = "projects/${var.project}/serviceAccounts/${local.github_email}"
  role               = "roles/iam.workloadIdentityUser"
  member = join("/", [
    "principalSet://iam.googleapis.com", google_iam_workload_identity_pool.github[0].name, local.github_who,
  ])
}
