//! Reads the system's certificate authorities, as an HTTP client without configured roots does and no function may. The
//! test of the guard uses it.

fn main() {
    let loaded = rustls_native_certs::load_native_certs();
    println!("{} certificate authorities, {} errors", loaded.certs.len(), loaded.errors.len());
}
