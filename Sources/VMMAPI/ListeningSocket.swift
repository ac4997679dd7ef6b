// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc
internal import Synchronization

/// A listening socket that a server takes over. Thread-safe.
package protocol ListeningSocket: AnyObject, Sendable {
    /// Where it listens, for messages.
    var place: String { get }
    /// Transfers the listening socket to the server, which closes it. Later calls return -1.
    func takeDescriptor() -> Int32
    /// Removes the socket's files, if it has any. Closes the socket if no server took it. Idempotent.
    func remove()
}

/// Where `symvmm exporter` listens: a numeric IP address with a port, or the path of a Unix socket.
package enum ListenAddress: Sendable, Equatable {
    /// TCP over IPv4. Address and port are in the host's byte order; the kernel chooses the port for 0.
    case ipv4(address: UInt32, port: UInt16)
    /// TCP over IPv6.
    case ipv6(address: [UInt8], port: UInt16)
    /// A Unix socket.
    case unix(path: String)

    private static let form = "give ADDRESS:PORT with a numeric address, such as 127.0.0.1:9464 or [::1]:9464, or unix:PATH"

    /// Parses an option's value.
    package init(_ text: String, option: String) throws(VMMError) {
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst(5))
            guard !path.isEmpty else { throw .user("\(option): '\(text)' has no path: \(ListenAddress.form)") }
            self = .unix(path: path)
            return
        }
        guard let colon = text.lastIndex(of: ":") else { throw .user("\(option): '\(text)' has no port: \(ListenAddress.form)") }
        let digits = text[text.index(after: colon)...]
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let port = UInt16(digits)
        else { throw .user("\(option): '\(digits)' is not a port from 0 to 65535: \(ListenAddress.form)") }
        let host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]"), let address = ListenAddress.parsed(String(host.dropFirst().dropLast()), AF_INET6, 16) {
            self = .ipv6(address: address, port: port)
        } else if let address = ListenAddress.parsed(host == "localhost" ? "127.0.0.1" : String(host), AF_INET, 4) {
            self = .ipv4(address: address.reduce(0) { $0 << 8 | UInt32($1) }, port: port)
        } else {
            throw .user("\(option): '\(host)' is not an address: \(ListenAddress.form)")
        }
    }

    private static func parsed(_ text: String, _ family: Int32, _ length: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: length)
        // SAFETY: the array has the length of an address of the family.
        return unsafe inet_pton(family, text, &bytes) == 1 ? bytes : nil
    }

    /// Binds and listens. An error is the user's: the address is in use, not of this host, or not permitted.
    package func listen(option: String) throws(VMMError) -> any ListeningSocket {
        switch self {
        case .unix(let path):
            do throws(VMMError) {
                return try ControlSocket(unnamed: path, option: option, user: "another process")
            } catch {
                throw error.kind == .user && error.what.hasPrefix(option) ? error : error.of(option, .user)
            }
        case .ipv4(let address, let port):
            var name = sockaddr_in()
            name.sin_family = sa_family_t(AF_INET)
            name.sin_port = port.bigEndian
            name.sin_addr.s_addr = address.bigEndian
            return try TCPListener(AF_INET, name, option)
        case .ipv6(let address, let port):
            var name = sockaddr_in6()
            name.sin6_family = sa_family_t(AF_INET6)
            name.sin6_port = port.bigEndian
            unsafe withUnsafeMutableBytes(of: &name.sin6_addr) { field in
                // SAFETY: both have 16 bytes.
                unsafe field.copyBytes(from: address.prefix(field.count))
            }
            return try TCPListener(AF_INET6, name, option)
        }
    }
}

/// A listening TCP socket.
private final class TCPListener: ListeningSocket {
    /// A URL of the server, with the port that the kernel chose.
    let place: String
    private let number: Atomic<Int32>

    /// Binds and listens.
    ///
    /// - Parameters:
    ///   - family: AF_INET or AF_INET6.
    ///   - name: the family's socket address, a C structure.
    ///   - option: for errors.
    init<Name>(_ family: Int32, _ name: Name, _ option: String) throws(VMMError) {
        let descriptor = socket(family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw VMMError.last("\(option): socket").asking(.user) }
        var on: Int32 = 1
        let size = socklen_t(MemoryLayout<Int32>.size)
        // A server that was restarted may use the port at once. It still cannot take it from one that listens (socket(7)).
        // SAFETY: the calls read only the variable, whose size they get.
        _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, size)
        if family == AF_INET6 { _ = unsafe setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &on, size) }
        var name = name
        let status = unsafe withUnsafePointer(to: &name) { pointer in
            // SAFETY: every socket address begins as a sockaddr, and the call gets its true size.
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(descriptor, $0, socklen_t(MemoryLayout<Name>.size))
            }
        }
        guard status == 0, Glibc.listen(descriptor, ControlSocket.backlog) == 0 else {
            let number = errno
            close(descriptor)
            throw TCPListener.error(number, option)
        }
        place = "http://\(TCPListener.boundName(descriptor, family))"
        number = Atomic(descriptor)
    }

    private static func error(_ number: Int32, _ option: String) -> VMMError {
        let advice =
            switch number {
            case EADDRINUSE: "another process listens there: choose another port"
            case EADDRNOTAVAIL: "this host has no such address"
            case EACCES: "choose a port of 1024 or more"
            default: ""
            }
        return VMMError(.user, call: option, errno: number, advice: advice)
    }

    /// Address and port as in a URL.
    private static func boundName(_ descriptor: Int32, _ family: Int32) -> String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        var port: UInt16 = 0
        if family == AF_INET {
            var name = sockaddr_in()
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            unsafe withUnsafeMutablePointer(to: &name) { pointer in
                // SAFETY: as in init; the call writes at most `length` bytes. The text has room for every address.
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = unsafe getsockname(descriptor, $0, &length) }
            }
            _ = unsafe inet_ntop(family, &name.sin_addr, &text, socklen_t(text.count))
            port = UInt16(bigEndian: name.sin_port)
        } else {
            var name = sockaddr_in6()
            var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
            unsafe withUnsafeMutablePointer(to: &name) { pointer in
                // SAFETY: as above.
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = unsafe getsockname(descriptor, $0, &length) }
            }
            _ = unsafe inet_ntop(family, &name.sin6_addr, &text, socklen_t(text.count))
            port = UInt16(bigEndian: name.sin6_port)
        }
        let address = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return family == AF_INET ? "\(address):\(port)" : "[\(address)]:\(port)"
    }

    func takeDescriptor() -> Int32 {
        number.exchange(-1, ordering: .acquiringAndReleasing)
    }

    func remove() {
        let descriptor = takeDescriptor()
        if descriptor >= 0 { close(descriptor) }
    }

    deinit {
        remove()
    }
}
