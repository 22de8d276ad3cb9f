//! Messages between bytes and prost, as tonic wants it, with a bound on the parts of a request.
//!
//! Named by `build.rs` as the codec of all generated services. A part of a request, such as an element of a list or an entry of a map, is as short as two bytes on the wire and takes a
//! hundred in memory: a message of the largest size could ask for gigabytes, and block a thread for seconds, before any handler sees it. So the parts are counted first, along the
//! descriptors of the contract and without decoding anything. Pictures are one part each. Answers are not counted.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::LazyLock;

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{Message, Name};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstDecoder, ProstEncoder};

use super::proto::DESCRIPTORS;
use crate::error::Error;

/// Most parts of a request, those of its parts included: far more than one with all checks, claims and parameters has.
const MAX_PARTS: usize = 4096;

/// The codec of requests and answers.
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder { request: CONTRACT.requests.get(&U::full_name()).copied(), decoder: ProstDecoder::default() }
    }
}

/// Decodes one kind of message.
#[derive(Debug)]
pub struct BoundedDecoder<U> {
    /// `None` for what is no request.
    request: Option<usize>,
    decoder: ProstDecoder<U>,
}

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if let Some(request) = self.request {
            // The buffer is one piece of memory, which tonic has collected.
            CONTRACT.take_parts(request, buffer.chunk(), &mut MAX_PARTS.clone()).map_err(|refused| {
                let reason = match refused {
                    Refused::TooMany => format!("a message has more than {MAX_PARTS} parts"),
                    Refused::Broken => "a message cannot be read".to_owned(),
                };
                Error::invalid("", "MESSAGE_MALFORMED", reason)
            })?;
        }
        self.decoder.decode(buffer)
    }
}

/// What a field of a message is, if it is more than one part.
#[derive(Debug, Clone, Copy)]
enum Field {
    /// A message of that number.
    Message(usize),
    /// Numbers, one after the other.
    Packed,
}

/// The messages of the contract.
#[derive(Debug)]
struct Contract {
    messages: Vec<BTreeMap<u32, Field>>,
    /// What methods take, by full name.
    requests: BTreeMap<String, usize>,
}

/// Why a message is not decoded.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    TooMany,
    /// It is none. Not left to prost: that reads on over the end of an inner message before it says so.
    Broken,
}

static CONTRACT: LazyLock<Contract> =
    LazyLock::new(|| Contract::of(&FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default()));

impl Contract {
    fn of(descriptors: &FileDescriptorSet) -> Self {
        let mut all = Vec::new();
        for file in &descriptors.file {
            for message in &file.message_type {
                collect(message, &format!(".{}", file.package()), &mut all);
            }
        }
        let numbers: BTreeMap<&str, usize> =
            all.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
        let fields = |message: &DescriptorProto| {
            let field = |field: &prost_types::FieldDescriptorProto| {
                let kind = match field.r#type() {
                    Type::Message | Type::Group => Field::Message(*numbers.get(field.type_name())?),
                    Type::String | Type::Bytes => return None,
                    _ if field.label() == Label::Repeated => Field::Packed,
                    _ => return None,
                };
                Some((field.number().cast_unsigned(), kind))
            };
            message.field.iter().filter_map(field).collect()
        };
        let messages = all.iter().map(|(_, message)| fields(message)).collect();
        let methods = descriptors.file.iter().flat_map(|file| file.service.iter().flat_map(|service| &service.method));
        let request = |name: &str| Some((name.trim_start_matches('.').to_owned(), *numbers.get(name)?));
        Self { messages, requests: methods.filter_map(|method| request(method.input_type())).collect() }
    }

    /// Takes the parts of a message from those that are left.
    fn take_parts(&self, message: usize, mut bytes: &[u8], left: &mut usize) -> Result<(), Refused> {
        let broken = |_| Refused::Broken;
        while !bytes.is_empty() {
            *left = left.checked_sub(1).ok_or(Refused::TooMany)?;
            let (number, wire) = decode_key(&mut bytes).map_err(broken)?;
            if wire != WireType::LengthDelimited {
                skip_field(wire, number, &mut bytes, DecodeContext::default()).map_err(broken)?;
                continue;
            }
            let length = usize::try_from(decode_varint(&mut bytes).map_err(broken)?).unwrap_or(usize::MAX);
            let (inner, rest) = bytes.split_at_checked(length).ok_or(Refused::Broken)?;
            bytes = rest;
            match self.messages.get(message).and_then(|fields| fields.get(&number)) {
                Some(Field::Message(inner_message)) => self.take_parts(*inner_message, inner, left)?,
                Some(Field::Packed) => *left = left.checked_sub(inner.len()).ok_or(Refused::TooMany)?,
                None => {}
            }
        }
        Ok(())
    }
}

/// A message and those within it, by full name.
fn collect<'a>(message: &'a DescriptorProto, within: &str, all: &mut Vec<(String, &'a DescriptorProto)>) {
    let name = format!("{within}.{}", message.name());
    for nested in &message.nested_type {
        collect(nested, &name, all);
    }
    all.push((name, message));
}

#[cfg(test)]
mod tests {
    use super::super::proto::{
        CheckRequest, LivePolicy, Media, ReadDocumentRequest, VerifyLiveRequest, VerifyRequest, verify_live_request,
    };
    use super::*;

    fn parts<M: Message + Name>(message: &M) -> Option<usize> {
        let mut left = MAX_PARTS;
        let taken = CONTRACT.take_parts(CONTRACT.requests[&M::full_name()], &message.encode_to_vec(), &mut left);
        taken.ok().map(|()| MAX_PARTS - left)
    }

    #[test]
    fn every_method_has_a_request_and_each_part_counts_wherever_it_is() {
        for name in ["VerifyRequest", "ScanMrzRequest", "VerifyLiveRequest", "ReloadRequest", "GetStatusRequest"] {
            assert!(CONTRACT.requests.contains_key(&format!("vouch.v1.{name}")), "{name}");
        }
        assert!(!CONTRACT.requests.contains_key("vouch.v1.GetStatusResponse"));
        // Bytes that look like a message are not looked into.
        let media = Media { kind: 1, data: vec![8; 1 << 20].into() };
        let check = CheckRequest {
            name: "age_estimation".into(),
            parameters: (0..100).map(|number| (format!("parameter {number}"), 1.0)).collect(),
            ..CheckRequest::default()
        };
        let request = VerifyRequest { media: vec![media], checks: vec![check], ..VerifyRequest::default() };
        assert_eq!(parts(&request), Some(3 + 2 + 300));
        let policy = LivePolicy { actions: vec![1; 50], ..LivePolicy::default() };
        let live = VerifyLiveRequest { message: Some(verify_live_request::Message::Policy(policy)) };
        assert_eq!(parts(&live), Some(2 + 50));
    }

    #[test]
    fn a_message_of_many_parts_is_refused_whatever_they_are() {
        let many = MAX_PARTS + 1;
        assert_eq!(parts(&ReadDocumentRequest { images: vec![bytes::Bytes::new(); many], ..Default::default() }), None);
        assert_eq!(parts(&VerifyRequest { checks: vec![CheckRequest::default(); many], ..Default::default() }), None);
        let parameters = (0..many).map(|number| (number.to_string(), 0.0)).collect();
        let check = CheckRequest { parameters, ..CheckRequest::default() };
        assert_eq!(parts(&VerifyRequest { checks: vec![check], ..Default::default() }), None);
        let policy = LivePolicy { actions: vec![0; many], ..LivePolicy::default() };
        assert_eq!(parts(&VerifyLiveRequest { message: Some(verify_live_request::Message::Policy(policy)) }), None);
        let most = VerifyRequest { checks: vec![CheckRequest::default(); MAX_PARTS], ..Default::default() };
        assert_eq!(parts(&most), Some(MAX_PARTS));
    }

    #[test]
    fn what_is_no_message_is_refused_before_anything_is_decoded() {
        // The last: an inner message whose field is longer than itself, over whose end prost would read on.
        let over = [&[0x0a, 2, 0x0a, 0x7f][..], &[1; 0x7f]].concat();
        for bytes in [&[0xff; 40][..], &[0x0a, 0x7f, 1], &[0x0b], &[0], &over] {
            let counted =
                CONTRACT.take_parts(CONTRACT.requests["vouch.v1.VerifyLiveRequest"], bytes, &mut MAX_PARTS.clone());
            assert_eq!(counted, Err(Refused::Broken), "{bytes:?}");
        }
    }
}
