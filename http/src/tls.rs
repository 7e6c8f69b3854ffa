//! Which certificates are trusted: Mozilla's authorities, which are built in, and
//! those of the settings.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::SettingError;

/// TLS with the built-in authorities and those in `certificates` (PEM).
pub(crate) fn config(certificates: &[u8]) -> Result<ClientConfig, SettingError> {
    let refuse = |why: String| SettingError {
        what: "certificates",
        why,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    let mut given = 0;
    for certificate in CertificateDer::pem_slice_iter(certificates) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| refuse(error.to_string()))?;
        given += 1;
    }
    if given == 0 && !certificates.is_empty() {
        return Err(refuse("no certificate in the PEM text".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
