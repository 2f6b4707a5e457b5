//! The REST bodies of logging in: who is asking, and how one becomes somebody.

use serde::{Deserialize, Serialize};

use crate::model::{Time, UserId};

/// How people log in here. Nothing in it: nobody has to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct LoginMethods {
    pub methods: Vec<LoginMethod>,
    /// What people call the provider of `oidc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum LoginMethod {
    /// With name and password.
    Local,
    /// At an OpenID Connect provider, by way of `GET /api/login/oidc`.
    Oidc,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub name: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(***)")
    }
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct Me {
    #[schema(value_type = String)]
    #[cfg_attr(test, ts(type = "string"))]
    pub user: UserId,
    /// Absent where nobody logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub admin: bool,
}

/// An API key, without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ApiKey {
    pub id: String,
    pub label: String,
    #[schema(value_type = String)]
    #[cfg_attr(test, ts(type = "string"))]
    pub created_at: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    /// What its owner calls it.
    pub label: String,
}

/// The one time that a key is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct NewApiKey {
    #[serde(flatten)]
    pub info: ApiKey,
    pub key: String,
}

impl std::fmt::Debug for NewApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewApiKey({}, ***)", self.info.id)
    }
}
