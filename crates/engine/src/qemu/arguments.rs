//! QEMU's command line (`spec/engine-qemu.md`, section 2).
//!
//! A template and its clones must have the same devices in the same order: the order gives them their
//! PCI slots. So there is one list, and the few differences are named by [`Start`].

use crate::namespace::GUEST_MAC;

/// Descriptors under which the VMM gets its files.
pub(crate) mod fd {
    pub(crate) const TAP: i32 = 3;
    pub(crate) const QMP: i32 = 4;
    pub(crate) const AGENT: i32 = 5;
    pub(crate) const CONSOLE: i32 = 6;
    /// The base; the layers on it follow.
    pub(crate) const DISKS: i32 = 7;
}

/// Where the jail shows the files that QEMU opens by path.
pub(crate) mod jail {
    pub(crate) const RAM: &str = "/ram";
    pub(crate) const KERNEL: &str = "/kernel";
    pub(crate) const INITRD: &str = "/initrd";
    pub(crate) const RAMGUARD: &str = "/ramguard.so";
}

/// The code buffer of the translator, in MiB. QEMU's default is 1 GiB and it never gives any of it
/// back; below 64 node thrashes, above it nothing gets faster (section 2, "CPU model and TCG options").
const TRANSLATION_BUFFER_MIB: u32 = 64;

/// Without the extensions that TCG translates badly: 10 to 35 % faster, still x86-64-v2.
const TCG_CPU: &str = "max,-avx,-avx2,-bmi1,-bmi2,-adx,-erms,-movbe";

const KERNEL_COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 reboot=t tsc=reliable no_timer_check \
     random.trust_cpu=on mitigations=off init_on_alloc=0 cryptomgr.notests raid=noautodetect nokaslr";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accelerator {
    Kvm,
    Tcg,
}

/// What a guest sees of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) accelerator: Accelerator,
    pub(crate) memory_mib: u32,
    pub(crate) vcpus: u8,
}

/// How the guest comes to life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// The kernel boots; RAM is the template's file, shared, so that what the guest writes is in it.
    Boot,
    /// RAM is the template's file, privately mapped; the device state is loaded over QMP.
    Restore,
    /// The kernel boots and nothing else is there: does this accelerator run a guest at all?
    Calibrate,
}

/// The node of a disk's layer; 0 is the base, 1 the template's layer.
pub(crate) fn disk_node(layer: usize) -> String {
    format!("disk{layer}")
}

/// The node of the file that a layer is in.
pub(crate) fn file_node(layer: usize) -> String {
    format!("file{layer}")
}

impl Machine {
    /// For a disk of so many layers: the base and at least one on it.
    pub(crate) fn arguments(&self, name: &str, start: Start, layers: usize) -> Vec<String> {
        let mut list = List::default();
        list.add("-nodefaults -no-user-config -display none -no-reboot");
        list.pair("-name", format!("guest={name}"));
        self.processor(&mut list);
        self.memory(&mut list, start);
        if start != Start::Restore {
            list.pair("-kernel", jail::KERNEL.into());
            list.pair("-initrd", jail::INITRD.into());
            list.pair("-append", KERNEL_COMMAND_LINE.into());
        }
        console(&mut list);
        if start != Start::Calibrate {
            channels(&mut list);
            disks(&mut list, layers);
            list.pair("-netdev", format!("tap,id=n0,fd={},vhost=off", fd::TAP));
            list.pair("-device", format!("virtio-net-pci,netdev=n0,mac={GUEST_MAC},romfile="));
            list.add("-device virtio-balloon-pci,free-page-reporting=on");
        }
        if start == Start::Restore {
            // xen-save-devices-state writes no configuration section; a loader that wants one refuses.
            list.add("-incoming defer -global migration.send-configuration=off");
        }
        list.add(
            "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        );
        list.0
    }

    fn processor(&self, list: &mut List) {
        match self.accelerator {
            Accelerator::Kvm => list.add("-accel kvm -cpu host,-vmx,-svm"),
            Accelerator::Tcg => {
                list.pair("-accel", format!("tcg,tb-size={TRANSLATION_BUFFER_MIB}"));
                list.pair("-cpu", TCG_CPU.into());
            }
        }
        list.pair("-smp", self.vcpus.to_string());
        list.pair("-m", format!("{}M", self.memory_mib));
    }

    fn memory(&self, list: &mut List, start: Start) {
        let size = self.memory_mib;
        let object = match start {
            Start::Boot => {
                format!("memory-backend-file,id=ram,size={size}M,mem-path={},share=on", jail::RAM)
            }
            Start::Restore => {
                format!("memory-backend-file,id=ram,size={size}M,mem-path={},share=off", jail::RAM)
            }
            Start::Calibrate => format!("memory-backend-ram,id=ram,size={size}M"),
        };
        list.pair("-object", object);
        list.pair(
            "-M",
            // The last: xen-save-devices-state writes no description of itself for people either.
            "q35,smm=off,sata=off,usb=off,hpet=off,vmport=off,smbus=off,memory-backend=ram,suppress-vmdesc=on"
                .into(),
        );
    }
}

fn console(list: &mut List) {
    list.pair("-add-fd", format!("fd={},set=0", fd::CONSOLE));
    list.add("-chardev file,id=console,path=/dev/fdset/0,append=on -serial chardev:console");
}

fn channels(list: &mut List) {
    list.pair("-chardev", format!("socket,id=qmp,fd={},server=on,wait=off", fd::QMP));
    list.add("-mon chardev=qmp,mode=control");
    list.pair("-chardev", format!("socket,id=agent,fd={},server=on,wait=off", fd::AGENT));
    list.add("-device virtio-serial-pci -device virtserialport,chardev=agent,name=agent");
    list.add("-device virtio-rng-pci");
}

/// base (raw) <- the template's layer <- the VM's own layers; all are read-only but the last.
fn disks(list: &mut List, layers: usize) {
    let top = layers.saturating_sub(1);
    for layer in 0..layers {
        let (node, file) = (disk_node(layer), file_node(layer));
        // A set of its own each; the console has set 0.
        let set = layer + 1;
        list.pair("-add-fd", format!("fd={},set={set}", fd::DISKS + layer as i32));
        let access = if layer == top { "discard=unmap" } else { "read-only=on" };
        list.pair(
            "-blockdev",
            format!("driver=file,node-name={file},filename=/dev/fdset/{set},locking=off,{access}"),
        );
        let format = match layer {
            0 => "driver=raw".to_owned(),
            _ => format!("driver=qcow2,backing={}", disk_node(layer - 1)),
        };
        list.pair("-blockdev", format!("{format},node-name={node},file={file},{access}"));
    }
    list.pair("-device", format!("virtio-blk-pci,drive={}", disk_node(top)));
}

/// Arguments so far.
#[derive(Default)]
struct List(Vec<String>);

impl List {
    /// Adds arguments that have no space in them.
    fn add(&mut self, words: &str) {
        self.0.extend(words.split_whitespace().map(String::from));
    }

    fn pair(&mut self, option: &str, value: String) {
        self.0.extend([option.to_owned(), value]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { accelerator: Accelerator::Tcg, memory_mib: 512, vcpus: 1 };

    fn devices(start: Start) -> Vec<String> {
        let arguments = MACHINE.arguments("x", start, 2);
        arguments
            .windows(2)
            .filter(|pair| pair[0] == "-device")
            .map(|pair| pair[1].clone())
            .collect()
    }

    #[test]
    fn only_the_top_layer_is_written_to() {
        let arguments = MACHINE.arguments("x", Start::Restore, 4);
        let writable: Vec<&String> = arguments
            .iter()
            .filter(|a| a.contains("node-name=") && !a.contains("read-only=on"))
            .collect();
        assert_eq!(writable.len(), 2, "{writable:?}");
        assert!(writable.iter().all(|a| a.contains("node-name=disk3") || a.contains("=file3")));
    }

    #[test]
    fn a_clone_has_its_templates_devices_in_their_order() {
        assert_eq!(devices(Start::Boot), devices(Start::Restore));
    }

    #[test]
    fn only_a_template_writes_to_its_ram_file() {
        let has =
            |start, what: &str| MACHINE.arguments("x", start, 2).iter().any(|a| a.contains(what));
        assert!(has(Start::Boot, "share=on") && !has(Start::Restore, "share=on"));
        assert!(has(Start::Restore, "share=off"));
    }
}
