# Who may do what: no more than is needed.

mock_provider "google" {
  # So that a plan has a value for what Google would choose.
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

run "without_github" {
  command = plan

  assert {
    condition = (
      { for name, grant in google_secret_manager_secret_iam_member.runtime :
      name => [grant.secret_id, grant.role, grant.member] }
      == { for name in ["apify-token", "data-world-token", "relay-secret", "github-webhook-secret"] : name => [
        name, "roles/secretmanager.secretAccessor", "serviceAccount:dataset-relay@my-project.iam.gserviceaccount.com"
      ] }
    )
    error_message = "Each secret is read by the runtime account, by one grant, and by nobody else."
  }

  assert {
    condition     = keys(google_secret_manager_secret.relay) == keys(google_secret_manager_secret_iam_member.runtime)
    error_message = "There is a secret that nobody reads, or a grant without a secret."
  }

  assert {
    condition = (
      google_cloud_run_v2_service.relay.template[0].service_account
      == "dataset-relay@my-project.iam.gserviceaccount.com"
    )
    error_message = "The function runs as its own account."
  }

  assert {
    condition = (
      google_project_iam_member.build.role == "roles/run.builder" &&
      google_project_iam_member.build.member == "serviceAccount:dataset-relay-build@my-project.iam.gserviceaccount.com"
    )
    error_message = "The build account builds, and that is all that anybody may on the whole project."
  }

  assert {
    condition = (
      length(google_iam_workload_identity_pool.github) + length(google_iam_workload_identity_pool_provider.github) +
      length(google_service_account.github) + length(google_project_iam_member.github) +
      length(google_service_account_iam_member.github) + length(google_service_account_iam_member.github_workflow) == 0
    )
    error_message = "Without github_repository there is no pool, no third account and no grant to it."
  }

  assert {
    condition     = output.github == null
    error_message = "Without github_repository GitHub needs nothing."
  }
}

run "public_is_the_service_alone" {
  command = plan

  assert {
    condition = (
      google_cloud_run_v2_service_iam_member.public.role == "roles/run.invoker" &&
      google_cloud_run_v2_service_iam_member.public.member == "allUsers" &&
      google_cloud_run_v2_service_iam_member.public.name == "dataset-relay"
    )
    error_message = "Anybody may call the service."
  }

  assert {
    condition = length(regexall("\"allUsers\"|allAuthenticatedUsers", join("\n", [
      for name in fileset(path.module, "*.tf") : file("${path.module}/${name}")
    ]))) == 1
    error_message = "Something else is public, too."
  }
}

run "no_resource_takes_or_tells" {
  command = plan

  assert {
    condition = length(regexall("resource \"\\w+_iam_(binding|policy)\"", join("\n", [
      for name in fileset(path.module, "*.tf") : file("${path.module}/${name}")
    ]))) == 0
    error_message = "A binding or policy takes away what others were given."
  }

  assert {
    condition = length(regexall("\"google_(secret_manager_secret_version|service_account_key)\\w*\"", join("\n", [
      for name in fileset(path.module, "*.tf") : file("${path.module}/${name}")
    ]))) == 0
    error_message = "A secret's value, or a key, would be in the state."
  }

  assert {
    condition = length(regexall("roles/(owner|editor|viewer)\\b|roles/[\\w.]+[aA]dmin", join("\n", [
      for name in fileset(path.module, "*.tf") : file("${path.module}/${name}")
    ]))) == 0
    error_message = "A basic role or an admin's is too much."
  }
}

run "github_by_name" {
  command = plan

  variables {
    github_repository = "acme/relay"
  }

  assert {
    condition = google_iam_workload_identity_pool_provider.github[0].attribute_condition == (
      "assertion.repository == 'acme/relay' && assertion.ref == 'refs/heads/main' && assertion.environment == 'production'"
    )
    error_message = "Only this repository's main branch, and only a job that the environment's reviewers have approved."
  }

  assert {
    condition = (
      google_iam_workload_identity_pool_provider.github[0].oidc[0].issuer_uri
      == "https://token.actions.githubusercontent.com"
    )
    error_message = "GitHub is who signs."
  }

  assert {
    condition = (
      google_service_account_iam_member.github_workflow[0].role == "roles/iam.workloadIdentityUser" &&
      google_service_account_iam_member.github_workflow[0].member == join("/", [
        "principalSet://iam.googleapis.com", "projects/1/locations/global/workloadIdentityPools/dataset-relay",
        "attribute.repository/acme/relay",
      ])
    )
    error_message = "Only this repository acts as GitHub's account."
  }

  assert {
    condition = { for role, grant in google_project_iam_member.github : role => grant.member } == {
      for role in ["roles/run.sourceDeveloper", "roles/serviceusage.serviceUsageConsumer"] :
      role => "serviceAccount:dataset-relay-deploy@my-project.iam.gserviceaccount.com"
    }
    error_message = "What a deployment from source needs on the project."
  }

  assert {
    condition = {
      for grant in google_service_account_iam_member.github : grant.service_account_id => [grant.role, grant.member]
      } == { for account in ["dataset-relay", "dataset-relay-build"] :
      "projects/my-project/serviceAccounts/${account}@my-project.iam.gserviceaccount.com" => [
        "roles/iam.serviceAccountUser", "serviceAccount:dataset-relay-deploy@my-project.iam.gserviceaccount.com"
    ] }
    error_message = "It has things run as the runtime and the build account only."
  }

  assert {
    condition = alltrue([
      for grant in google_secret_manager_secret_iam_member.runtime : !strcontains(grant.member, "dataset-relay-deploy")
    ])
    error_message = "GitHub's account reads no secret."
  }
}

run "github_by_number" {
  command = plan

  variables {
    github_repository    = "acme/relay"
    github_repository_id = "123456789"
    github_ref           = "refs/heads/release"
  }

  assert {
    condition = google_iam_workload_identity_pool_provider.github[0].attribute_condition == (
      "assertion.repository_id == '123456789' && assertion.ref == 'refs/heads/release' && assertion.environment == 'production'"
    )
    error_message = "The number decides: a name can be taken over."
  }

  assert {
    condition = endswith(
      google_service_account_iam_member.github_workflow[0].member, "/attribute.repository_id/123456789"
    )
    error_message = "The number decides who acts as GitHub's account."
  }
}
