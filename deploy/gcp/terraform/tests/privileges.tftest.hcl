# The permissions: each service account has only the necessary ones.

mock_provider "google" {
  # With mock values, a plan knows the attributes that Google sets.
  override_during = plan

  mock_resource "google_iam_workload_identity_pool" {
    defaults = {
      name = "projects/1/locations/global/workloadIdentityPools/dataset-relay"
    }
  }
}

variables {
  project      = "my-project"
  hook_secrets = ["github-webhook-secret", "apify-token"]
}

run "grants_without_github" {
  command = plan

  assert {
    condition = (
      { for name, grant in google_secret_manager_secret_iam_member.runtime :
      name => [grant.secret_id, grant.role, grant.member] }
      == { for name in ["apify-token", "data-world-token", "relay-secret", "github-webhook-secret"] : name => [
        name, "roles/secretmanager.secretAccessor", "serviceAccount:dataset-relay@my-project.iam.gserviceaccount.com"
      ] }
    )
    error_message = "Each secret must have exactly one grant, for the service account of the function."
  }

  assert {
    condition     = keys(google_secret_manager_secret.relay) == keys(google_secret_manager_secret_iam_member.runtime)
    error_message = "Each secret must have a grant, and each grant must have a secret."
  }

  assert {
    condition = (
      google_cloud_run_v2_service.relay.template[0].service_account
      == "dataset-relay@my-project.iam.gserviceaccount.com"
    )
    error_message = "The function must use its own service account."
  }

  assert {
    condition = (
      google_project_iam_member.build.role == "roles/run.builder" &&
      google_project_iam_member.build.member == "serviceAccount:dataset-relay-build@my-project.iam.gserviceaccount.com"
    )
    error_message = "The only grant on the project must be roles/run.builder, for the service account of the build."
  }

  assert {
    condition = (
      length(google_iam_workload_identity_pool.github) + length(google_iam_workload_identity_pool_provider.github) +
      length(google_service_account.github) + length(google_project_iam_member.github) +
      length(google_service_account_iam_member.github) + length(google_service_account_iam_member.github_workflow) == 0
    )
    error_message = "Without github_repository, the pool, its service account, and the grants must not exist."
  }

  assert {
    condition     = output.github == null
    error_message = "Without github_repository, the output github must be null."
  }
}

run "only_the_service_is_public" {
  command = plan

  assert {
    condition = (
      google_cloud_run_v2_service_iam_member.public.role == "roles/run.invoker" &&
      google_cloud_run_v2_service_iam_member.public.member == "allUsers" &&
      google_cloud_run_v2_service_iam_member.public.name == "dataset-relay"
    )
    error_message = "Every caller must have the permission to call the service."
  }

  assert {
    condition = length(regexall("\"allUsers\"|allAuthenticatedUsers", join("\n", [
      for name in fileset(path.module, "*.tf") : file("${path.module}/${name}")
    ]))) == 1
    error_message = "No other resource may be public."
  }
}

run "no_resource_revokes_grants_or_reveals_secrets" {
  command = plan

  assert {
    condition = length(regexall("resource \"\\w+_iam_(binding|policy)\"", join("\n", [
      for name in fileset(path.module, "*.tf") : file("${path.module}/${name}")
    ]))) == 0
    error_message = "No resource may be a binding or a policy, which would revoke the grants of other members."
  }

  assert {
    condition = length(regexall("\"google_(secret_manager_secret_version|service_account_key)\\w*\"", join("\n", [
      for name in fileset(path.module, "*.tf") : file("${path.module}/${name}")
    ]))) == 0
    error_message = "No resource may write the value of a secret, or a key, into the state."
  }

  assert {
    condition = length(regexall("roles/(owner|editor|viewer)\\b|roles/[\\w.]+[aA]dmin", join("\n", [
      for name in fileset(path.module, "*.tf") : file("${path.module}/${name}")
    ]))) == 0
    error_message = "No grant may use a basic role or a role of an administrator."
  }
}

run "github_repository_by_name" {
  command = plan

  variables {
    github_repository = "acme/relay"
  }

  assert {
    condition = google_iam_workload_identity_pool_provider.github[0].attribute_condition == join(" && ", [
      "assertion.repository == 'acme/relay'",
      "assertion.ref == 'refs/heads/main'",
      "assertion.environment == 'production'",
    ])
    error_message = "The condition must require the repository, its main branch, and the environment."
  }

  assert {
    condition = (
      google_iam_workload_identity_pool_provider.github[0].oidc[0].issuer_uri
      == "https://token.actions.githubusercontent.com"
    )
    error_message = "The issuer of the tokens must be GitHub."
  }

  assert {
    condition = (
      google_service_account_iam_member.github_workflow[0].role == "roles/iam.workloadIdentityUser" &&
      google_service_account_iam_member.github_workflow[0].member == join("/", [
        "principalSet://iam.googleapis.com", "projects/1/locations/global/workloadIdentityPools/dataset-relay",
        "attribute.repository/acme/relay",
      ])
    )
    error_message = "Only this repository must have the permission to use the service account."
  }

  assert {
    condition = { for role, grant in google_project_iam_member.github : role => grant.member } == {
      for role in ["roles/run.sourceDeveloper", "roles/serviceusage.serviceUsageConsumer"] :
      role => "serviceAccount:dataset-relay-deploy@my-project.iam.gserviceaccount.com"
    }
    error_message = "The grants on the project must be those of a deployment from source."
  }

  assert {
    condition = {
      for grant in google_service_account_iam_member.github : grant.service_account_id => [grant.role, grant.member]
      } == { for account in ["dataset-relay", "dataset-relay-build"] :
      "projects/my-project/serviceAccounts/${account}@my-project.iam.gserviceaccount.com" => [
        "roles/iam.serviceAccountUser", "serviceAccount:dataset-relay-deploy@my-project.iam.gserviceaccount.com"
    ] }
    error_message = "The workflow must use only the service accounts of the function and of the build."
  }

  assert {
    condition = alltrue([
      for grant in google_secret_manager_secret_iam_member.runtime : !strcontains(grant.member, "dataset-relay-deploy")
    ])
    error_message = "The service account for GitHub must not read a secret."
  }
}

run "github_repository_by_numeric_id" {
  command = plan

  variables {
    github_repository    = "acme/relay"
    github_repository_id = "123456789"
    github_ref           = "refs/heads/release"
  }

  assert {
    condition = google_iam_workload_identity_pool_provider.github[0].attribute_condition == join(" && ", [
      "assertion.repository_id == '123456789'",
      "assertion.ref == 'refs/heads/release'",
      "assertion.environment == 'production'",
    ])
    error_message = "The condition must compare the numeric ID, because another owner can reuse a name."
  }

  assert {
    condition = endswith(
      google_service_account_iam_member.github_workflow[0].member, "/attribute.repository_id/123456789"
    )
    error_message = "The grant must refer to the numeric ID of the repository."
  }
}
