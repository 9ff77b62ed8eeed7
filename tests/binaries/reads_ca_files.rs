//! Does what no function may do: reads the system's certificate authorities, by the library that an HTTP client uses when
//! it is given none. It proves that the guard against it can see it.

fn main() {
    let loaded = rustls_native_certs::load_native_certs();
    println!("{} certificate authorities, {} errors", loaded.certs.len(), loaded.errors.len());
}
