// SPDX-License-Identifier: Apache-2.0

/// The groups of Firecracker's metrics lines and their numbers, those of its version 1.17 for x86-64. Its readers may look for any of them.
enum FirecrackerGroups {
    /// Names of groups, and the names of their numbers, separated by spaces. One that ends with `_agg` is a group of times.
    private static let names: [(group: String, fields: String)] = [
        ("api_server", "process_startup_time_cpu_us process_startup_time_us"),
        (
            "balloon",
            """
            activate_fails deflate_count event_fails free_page_hint_count free_page_hint_fails free_page_hint_freed \
            free_page_report_count free_page_report_fails free_page_report_freed inflate_count stats_update_fails \
            stats_updates_count
            """
        ),
        (
            "block",
            """
            activate_fails cfg_fails event_fails execute_fails flush_count invalid_reqs_count io_engine_throttled_events \
            no_avail_buffer queue_event_count rate_limiter_event_count rate_limiter_throttled_events read_agg read_bytes \
            read_count remaining_reqs_count update_count update_fails write_agg write_bytes write_count
            """
        ),
        ("deprecated_api", "deprecated_http_api_calls"),
        (
            "entropy",
            """
            activate_fails entropy_bytes entropy_event_count entropy_event_fails entropy_rate_limiter_throttled \
            host_rng_fails rate_limiter_event_count
            """
        ),
        ("get_api_requests", "hotplug_memory_count instance_info_count machine_cfg_count mmds_count vmm_version_count"),
        ("i8042", "error_count missed_read_count missed_write_count read_count reset_count write_count"),
        ("interrupts", "config_updates triggers"),
        (
            "latencies_us",
            """
            diff_create_snapshot full_create_snapshot load_snapshot pause_vm resume_vm vmm_diff_create_snapshot \
            vmm_full_create_snapshot vmm_load_snapshot vmm_pause_vm vmm_resume_vm
            """
        ),
        ("logger", "metrics_fails missed_log_count missed_metrics_count rate_limited_log_count"),
        (
            "memory_hotplug",
            """
            activate_fails plug_agg plug_bytes plug_count plug_fails queue_event_count queue_event_fails state_agg \
            state_count state_fails unplug_agg unplug_all_agg unplug_all_count unplug_all_fails unplug_bytes unplug_count \
            unplug_discard_fails unplug_fails
            """
        ),
        (
            "mmds",
            """
            connections_created connections_destroyed rx_accepted rx_accepted_err rx_accepted_unusual rx_bad_eth rx_count \
            rx_invalid_token rx_no_token tx_bytes tx_count tx_errors tx_frames
            """
        ),
        (
            "net",
            """
            activate_fails cfg_fails event_fails no_rx_avail_buffer no_tx_avail_buffer rx_bytes_count rx_count \
            rx_event_rate_limiter_count rx_fails rx_packets_count rx_queue_event_count rx_rate_limiter_throttled \
            rx_tap_event_count tap_read_fails tap_write_agg tap_write_fails tx_bytes_count tx_count tx_fails \
            tx_malformed_frames tx_packets_count tx_queue_event_count tx_rate_limiter_event_count tx_rate_limiter_throttled \
            tx_remaining_reqs_count tx_spoofed_mac_count
            """
        ),
        (
            "patch_api_requests",
            """
            drive_count drive_fails hotplug_memory_count hotplug_memory_fails machine_cfg_count machine_cfg_fails mmds_count \
            mmds_fails network_count network_fails pmem_count pmem_fails
            """
        ),
        ("pmem", "activate_fails cfg_fails event_fails queue_event_count rate_limiter_event_count rate_limiter_throttled_events"),
        (
            "put_api_requests",
            """
            actions_count actions_fails boot_source_count boot_source_fails cpu_cfg_count cpu_cfg_fails drive_count \
            drive_fails hotplug_memory_count hotplug_memory_fails logger_count logger_fails machine_cfg_count \
            machine_cfg_fails metrics_count metrics_fails mmds_count mmds_fails network_count network_fails pmem_count \
            pmem_fails serial_count serial_fails vsock_count vsock_fails
            """
        ),
        ("seccomp", "num_faults"),
        ("signals", "sigbus sighup sigill sigpipe sigsegv sigxcpu sigxfsz"),
        ("uart", "error_count flush_count missed_read_count missed_write_count rate_limiter_dropped_bytes read_count write_count"),
        (
            "vcpu",
            """
            exit_io_in exit_io_in_agg exit_io_out exit_io_out_agg exit_mmio_read exit_mmio_read_agg exit_mmio_write \
            exit_mmio_write_agg failures kvmclock_ctrl_fails
            """
        ),
        ("vmm", "panic_count"),
        (
            "vsock",
            """
            activate_fails cfg_fails conn_event_fails conns_added conns_killed conns_removed ev_queue_event_fails \
            killq_resync muxer_event_fails rx_bytes_count rx_packets_count rx_queue_event_count rx_queue_event_fails \
            rx_read_fails tx_bytes_count tx_flush_fails tx_packets_count tx_queue_event_count tx_queue_event_fails \
            tx_write_fails
            """
        ),
    ]

    /// Adds what is missing as zeroes. A group that begins with the name of another and an underscore, such as `block_root`, is one of that kind.
    static func fill(_ fields: inout [String: MetricsLine.Value]) {
        for (group, names) in names {
            let devices = group == "block" || group == "net" ? fields.keys.filter { $0.hasPrefix(group + "_") } : []
            for key in [group] + devices {
                var present: [String: MetricsLine.Value] = [:]
                if case .group(let values)? = fields[key] { present = values }
                for name in names.split(separator: " ").map(String.init) where present[name] == nil {
                    present[name] = name.hasSuffix("_agg") ? times : .number(0)
                }
                fields[key] = .group(present)
            }
        }
    }

    private static let times = MetricsLine.Value.group(["min_us": .number(0), "max_us": .number(0), "sum_us": .number(0)])
}
