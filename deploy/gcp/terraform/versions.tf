# 1.9: a variable's validation may look at other variables. The tests need 1.11 (override_during).
terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }

  # The state is kept in this folder until a backend is named here, or in a file of your own, as backend_override.tf:
  #   terraform { backend "gcs" { bucket = "..." } }
  # https://developer.hashicorp.com/terraform/language/backend/gcs
  # No secret's value is in the state; who may write it can change all that is in these files, though.
}

provider "google" {
  project = var.project
  region  = var.region
}
