//! Refusals in the form that clients of OpenAI's API read. Not here: what is refused.
//! Invariant: what may be asked again later has a status that such clients ask again on.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use inference::service::{Refusal, Unavailable};
use serde_json::json;

/// A refusal.
#[derive(Debug)]
pub struct Error {
    pub status: StatusCode,
    pub code: &'static str,
    /// The field of the request that is at fault.
    pub param: Option<String>,
    pub text: String,
}

impl Error {
    /// A request that is wrong.
    pub fn invalid(param: &str, text: impl ToString) -> Error {
        Error {
            param: Some(param.to_owned()),
            ..Error::form(text)
        }
    }

    /// A request that is no JSON of the right form.
    pub fn form(text: impl ToString) -> Error {
        Error {
            status: StatusCode::BAD_REQUEST,
            code: "invalid",
            param: None,
            text: text.to_string(),
        }
    }

    /// A request that may be sent again later.
    pub fn busy(text: impl ToString) -> Error {
        Error {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "busy",
            param: None,
            text: text.to_string(),
        }
    }

    /// Names the field whose content is at fault: settings were looked at before, so what a model refuses is its input.
    pub fn about(mut self, input: &str) -> Error {
        if self.param.is_none() && ["invalid", "too-long"].contains(&self.code) {
            self.param = Some(input.to_owned());
        }
        self
    }

    /// A request of somebody who has all that one may have at once.
    pub fn crowded(text: impl ToString) -> Error {
        Error {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: "rate_limit_exceeded",
            param: None,
            text: text.to_string(),
        }
    }

    /// As JSON, as an answer or as the last event of a stream.
    pub fn json(&self) -> serde_json::Value {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        json!({"error": {"message": self.text, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl From<BytesRejection> for Error {
    fn from(rejection: BytesRejection) -> Error {
        let text = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                "the request's body is larger than this node accepts: send less at once"
            }
            _ => "the request's body did not arrive whole: send it again",
        };
        Error {
            status: rejection.status(),
            code: "body",
            ..Error::form(text)
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        let text = refusal.to_string();
        let (status, code) = match refusal {
            Refusal::Certain(certain) => (StatusCode::BAD_REQUEST, certain.code.name()),
            Refusal::Unavailable(why) => match why {
                Unavailable::Absent(_) => (StatusCode::NOT_FOUND, "model_not_found"),
                Unavailable::Room(_) => (StatusCode::BAD_REQUEST, "no-room"),
                Unavailable::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
                Unavailable::Device(_) => (StatusCode::SERVICE_UNAVAILABLE, "device"),
                Unavailable::Cancelled | Unavailable::Closed => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
            },
        };
        Error {
            status,
            code,
            param: None,
            text,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        let later = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
        if later.contains(&self.status) {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
