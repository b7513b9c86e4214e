# The service accounts, and every grant except for the public one in main.tf. All grants are *_iam_member resources,
# because a *_iam_binding or a *_iam_policy would revoke the grants of other members.

locals {
  # Google returns the email address only after the creation of the service account. Therefore, build the address from
  # the ID: a plan can then show the member of each grant. The reference to the resource preserves the order of
  # creation.
  runtime_email = "${google_service_account.runtime.account_id}@${var.project}.iam.gserviceaccount.com"
  build_email   = "${google_service_account.build.account_id}@${var.project}.iam.gserviceaccount.com"
  push_email = one([
    for account in google_service_account.push : "${account.account_id}@${var.project}.iam.gserviceaccount.com"
  ])
}

# The function and the build use separate service accounts in place of the default service account of Compute Engine.
# Other workloads of the project also use the default service account, and it often has the role Editor.
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

# The function may read its secrets, and no other secret. Each secret has a grant of its own.
# https://cloud.google.com/secret-manager/docs/access-control
resource "google_secret_manager_secret_iam_member" "runtime" {
  for_each = google_secret_manager_secret.relay

  project   = var.project
  secret_id = each.value.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${local.runtime_email}"
}

# A build reads the uploaded source, and writes the image and the log.
# https://cloud.google.com/run/docs/configuring/services/build-service-account
resource "google_project_iam_member" "build" {
  project = var.project
  role    = "roles/run.builder"
  member  = "serviceAccount:${local.build_email}"
}

# The ID token of a push from the queue has the email address of this service account.
resource "google_service_account" "push" {
  count = var.queue ? 1 : 0

  project      = var.project
  account_id   = var.push_account
  display_name = "Dataset Relay: sends updates from the queue"
  depends_on   = [google_project_service.api]
}

# The pushes also need this permission if you remove the public grant in main.tf.
# https://cloud.google.com/run/docs/triggering/pubsub-push
resource "google_cloud_run_v2_service_iam_member" "push" {
  count = var.queue ? 1 : 0

  project  = var.project
  location = google_cloud_run_v2_service.relay.location
  name     = google_cloud_run_v2_service.relay.name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${local.push_email}"
}

# The function may publish to the topics of the queue, and to no other topic.
# https://cloud.google.com/pubsub/docs/access-control
resource "google_pubsub_topic_iam_member" "runtime" {
  for_each = google_pubsub_topic.queue

  project = var.project
  topic   = each.value.name
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:${local.runtime_email}"
}

# The least roles for a deployment from source. With these roles, GitHub's workflow can change neither the callers of
# the service nor any other grant.
# https://cloud.google.com/run/docs/configuring/services/build-service-account
resource "google_project_iam_member" "github" {
  for_each = local.with_github ? toset(["roles/run.sourceDeveloper", "roles/serviceusage.serviceUsageConsumer"]) : []

  project = var.project
  role    = each.value
  member  = "serviceAccount:${local.github_email}"
}

# GitHub's workflow can deploy and build with these two service accounts, and with no other service account of the
# project.
resource "google_service_account_iam_member" "github" {
  for_each = local.with_github ? { runtime = local.runtime_email, build = local.build_email } : {}

  service_account_id = "projects/${var.project}/serviceAccounts/${each.value}"
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${local.github_email}"
}

# Only the workflows of one repository can use the service account for GitHub. The condition in github.tf limits the
# permission to one ref and to one environment.
resource "google_service_account_iam_member" "github_workflow" {
  count = local.with_github ? 1 : 0

  service_account_id = "projects/${var.project}/serviceAccounts/${local.github_email}"
  role               = "roles/iam.workloadIdentityUser"
  member = join("/", [
    "principalSet://iam.googleapis.com", google_iam_workload_identity_pool.github[0].name, local.github_attribute,
  ])
}
