# Since Terraform 1.9, the validation of a variable can refer to other variables. The tests need Terraform 1.11
# (override_during).
terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }

  # Terraform keeps the state in this directory until you add a backend, here or in a file of your own, such as
  # backend_override.tf:
  #   terraform { backend "gcs" { bucket = "..." } }
  # https://developer.hashicorp.com/terraform/language/backend/gcs
  # The state contains no value of a secret. However, a person with write access to the state can change every resource
  # in these files.
}

provider "google" {
  project = var.project
  region  = var.region
}
